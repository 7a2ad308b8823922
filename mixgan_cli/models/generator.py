"""The generator: a gate, K experts and what they share."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.experts import Experts, Shared, one_hot_like
from mixgan_cli.models.gates import Gate, Weights
from mixgan_cli.randomness import normal, uniform


class Fakes(NamedTuple):
    """What a generator makes: samples [B, …] in [-1, 1] (points: anywhere), and the gate's weights [B, K]."""

    samples: Tensor
    weights_BK: Tensor


class Generator(nn.Module):
    r"""x = trunk(\sum_k a_k(z) G_k(stem(z))): what the experts make is mixed or chosen, then the trunk runs once.

    Most experts have a first layer each: no stem, a long trunk. Where they are whole networks there is no trunk; where
    they have the last layers, the stem is what they share.
    """

    def __init__(
        self,
        gate: Gate,
        experts: Experts,
        shared: Shared,
        latent_size: int,
        prior: Literal["normal", "uniform"],
    ) -> None:
        super().__init__()
        self.stem, self.gate, self.experts, self.trunk = shared.stem, gate, experts, shared.trunk
        self.latent_size, self.prior = latent_size, prior

    @property
    def k(self) -> int:
        """The number of experts."""
        return self.gate.k

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def latents(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """Draw latents [n, Z] from the prior with torch's random state, on the generator's device or another.

        While training, n is what the gate can share out; the same latents come again where it gives them to all.
        """
        device = self.device if device is None else device
        repeats = self.gate.repeats if self.training else 1
        parts = self.k if self.training and self.gate.partitions and repeats == 1 else 1
        draw = uniform if self.prior == "uniform" else normal
        drawn = draw(n // repeats, self.latent_size, device=device, parts=parts)
        return (drawn * 2 - 1 if self.prior == "uniform" else drawn).repeat(repeats, 1)

    def forward(self, latent_BZ: Tensor, expert: int | None = None) -> Fakes:
        """Make one sample a latent, by the mixture, or by one expert alone.

        Raises:
            ConfigError: there is no such expert.
        """
        inputs = self.stem(latent_BZ)
        if expert is not None:
            return self._only(expert, inputs)
        mixed, weights = self.gate.combine(latent_BZ, inputs, self.experts)
        return Fakes(self.trunk(mixed), weights.weights_BK)

    def weigh(self, latent_BZ: Tensor) -> Weights:
        """Return the gate's weights alone, with nothing made that they do not need."""
        return self.gate.weigh(latent_BZ, self.stem(latent_BZ), self.experts)

    def _only(self, expert: int, inputs: Tensor) -> Fakes:
        if not 0 <= expert < self.k:
            raise ConfigError(f"expert={expert}: the experts are numbered 0 to {self.k - 1}")
        weights_BK = one_hot_like(torch.full((len(inputs),), expert), self.k, inputs)
        return Fakes(self.trunk(self.experts.only(expert, inputs)), weights_BK)
