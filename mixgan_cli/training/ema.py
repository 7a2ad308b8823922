"""The exponential moving average of the generator."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from mixgan_cli.optim.schedules import Schedule

Network = TypeVar("Network", bound=nn.Module)


class MovingAverage(Generic[Network]):
    """A copy of a network that follows it with a half-life counted in images.

    Parameters are averaged, and so are the running statistics of batch norm: statistics of a small batch (12 samples
    per expert in MGGAN) are noisy, and belong to other weights than the averaged ones. Counters are copied. Early in
    training, the half-life is at most `ramp_up` times the images shown so far, so that the initial weights are
    forgotten (Karras et al. 2020); a schedule scales it over the run. With a half-life of 0, the copy shares the
    network's tensors.
    """

    def __init__(
        self, network: Network, half_life_nimg: int, ramp_up: float | None, schedule: Schedule | None = None
    ) -> None:
        # no averaging: share the tensors, so that only the mode differs
        same = {id(tensor): _alias(tensor) for tensor in _tensors(network)} if half_life_nimg == 0 else {}
        self.average = copy.deepcopy(network, same).eval().requires_grad_(False)
        self.half_life_nimg, self.ramp_up, self.schedule = half_life_nimg, ramp_up, schedule

    def decay(self, nimg: int, shown: int, iteration: int = 0) -> float:
        """Return the weight of the old average after `shown` more images; `nimg` counts these, too."""
        half_life = float(self.half_life_nimg)
        if self.schedule is not None:
            half_life *= self.schedule.factor(nimg, iteration)
        if self.ramp_up is not None:
            half_life = min(half_life, nimg * self.ramp_up)
        return 0.5 ** (shown / half_life) if half_life > 0 else 0.0

    def weight(self, nimg: int, shown: int, iteration: int = 0) -> Tensor:
        """Return the weight of the network in the average after `shown` more images, a scalar on the device."""
        return next(self.average.parameters()).new_full((), 1 - self.decay(nimg, shown, iteration))

    @torch.no_grad()
    def update(self, network: nn.Module, weight: Tensor) -> None:
        """Move towards the network by this weight, a scalar on the device."""
        if self.half_life_nimg == 0:
            return
        for average, value in zip(_tensors(self.average), _tensors(network), strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _alias(tensor: Tensor) -> Tensor:
    return nn.Parameter(tensor.detach(), requires_grad=False) if isinstance(tensor, nn.Parameter) else tensor
