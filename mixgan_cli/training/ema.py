"""The exponential moving average of the generator."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class MovingAverage(Generic[Network]):
    """A copy of a network that follows it with a half-life counted in images.

    Parameters are averaged; buffers (the statistics of batch norm are averages already) are copied. Early in training
    the half-life is at most `ramp_up` times the images shown so far, so that the initial weights are forgotten
    (Karras et al. 2020). With a half-life of 0 the copy equals the network.
    """

    def __init__(self, network: Network, half_life_nimg: int, ramp_up: float | None) -> None:
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life_nimg, self.ramp_up = half_life_nimg, ramp_up

    def decay(self, nimg: int, shown: int) -> float:
        """Return the weight of the past after `shown` more images, `nimg` being all images so far."""
        half_life = float(self.half_life_nimg)
        if self.ramp_up is not None:
            half_life = min(half_life, nimg * self.ramp_up)
        return 0.5 ** (shown / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, nimg: int, shown: int) -> None:
        """Move towards the network."""
        averages: list[Tensor] = list(self.average.parameters())
        values: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, values, 1 - self.decay(nimg, shown))
        for average, value in zip(self.average.buffers(), network.buffers(), strict=True):
            average.copy_(value)
