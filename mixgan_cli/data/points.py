"""Distributions in the plane: fresh points each step, no fixed set."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixgan_cli.errors import ConfigError
from mixgan_cli.randomness import seeded


class Ring:
    """A mixture of equal isotropic Gaussians with means (r sin θ, r cos θ), θ = 2πi/modes (MGGAN, section 5.1).

    `variance` is per axis: the paper's covariance is 0.02·I, a standard deviation of 0.141.
    """

    shape = (2,)

    def __init__(self, modes: int, radius: float, variance: float) -> None:
        if modes < 1 or radius <= 0 or variance <= 0:
            raise ConfigError(f"data: modes={modes}, radius={radius}, variance={variance} must all be positive")
        angle_M = torch.arange(modes) * (2 * math.pi / modes)
        self.means_M2 = radius * torch.stack((angle_M.sin(), angle_M.cos()), dim=1)
        self.radius = radius
        self.std = math.sqrt(variance)

    @property
    def gaussians(self) -> tuple[Tensor, float]:
        """The modes: means [M, 2] and their common standard deviation per axis."""
        return self.means_M2, self.std

    def __repr__(self) -> str:
        return f"Ring(modes={len(self.means_M2)}, radius={self.radius}, std={self.std:.6g})"

    def load(self) -> FreshPoints:
        """Return the distribution as a data set."""
        return FreshPoints(self)

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw points [n, 2] with torch's current random state."""
        means_M2 = self.means_M2.to(device)
        mode_N = torch.randint(len(means_M2), (n,), device=device)
        return means_M2[mode_N] + self.std * torch.randn(n, 2, device=device)


class FreshPoints:
    """A distribution to draw from: each batch is new, and the loop's random state says which."""

    def __init__(self, source: Ring) -> None:
        self.source = source

    def batches(self, seed: int, device: torch.device) -> FreshBatches:
        """Return the batches a run trains on."""
        return FreshBatches(self.source, device)

    def reals(self, n: int, seed: int) -> Tensor:
        """Return n fresh points [n, 2] for evaluation."""
        with seeded("reals", seed):
            return self.source.draw(n)

    def describe(self) -> dict[str, object]:
        """Say what a protocol says of the data."""
        return {"distribution": repr(self.source)}


class FreshBatches:
    """Batches drawn anew each time."""

    def __init__(self, source: Ring, device: torch.device) -> None:
        self.source, self.device = source, device

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return points [batch, 2]."""
        return self.source.draw(batch, self.device)
