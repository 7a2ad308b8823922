"""The generator: a gate, K experts and a shared trunk."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.experts import Experts
from mixgan_cli.models.gates import Gate


class Fakes(NamedTuple):
    """What a generator makes: samples [B, …] in [-1, 1] (points: anywhere), and the gate's weights [B, K]."""

    samples: Tensor
    weights_BK: Tensor


class Generator(nn.Module):
    r"""x = trunk(\sum_i a_i(z) G_i(z)): the experts' hidden vectors are mixed, then the shared trunk runs once."""

    def __init__(
        self,
        gate: Gate,
        experts: Experts,
        trunk: nn.Module,
        latent_size: int,
        prior: Literal["normal", "uniform"],
    ) -> None:
        super().__init__()
        self.gate, self.experts, self.trunk = gate, experts, trunk
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
        """Draw latents [n, Z] from the prior with torch's random state, on the generator's device or another."""
        device = self.device if device is None else device
        if self.prior == "uniform":
            return torch.rand(n, self.latent_size, device=device) * 2 - 1
        return torch.randn(n, self.latent_size, device=device)

    def forward(self, latent_BZ: Tensor, expert: int | None = None) -> Fakes:
        """Make one sample a latent, by the mixture, or by one expert alone.

        Raises:
            ConfigError: there is no such expert.
        """
        with torch.autocast(latent_BZ.device.type, enabled=False):  # in bfloat16 the weights would not sum to 1
            weights_BK = self.gate(latent_BZ) if expert is None else self._only(expert, latent_BZ)
        return Fakes(self.trunk(self.experts.mix(latent_BZ, weights_BK)), weights_BK)

    def _only(self, expert: int, latent_BZ: Tensor) -> Tensor:
        if not 0 <= expert < self.k:
            raise ConfigError(f"expert={expert}: the experts are numbered 0 to {self.k - 1}")
        weights_BK = latent_BZ.new_zeros(len(latent_BZ), self.k)
        weights_BK[:, expert] = 1
        return weights_BK
