"""Distributions in the plane: ring, grid, pair, random mixture, spiral."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from mixgan_cli.data.batches import Batches, Order
from mixgan_cli.data.packed import checksum
from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime.random import fork_seed, integers, normal, uniform

Modes = Annotated[int, Field(le=2**12)]
Points = Annotated[int, Field(le=2**24)]


class Toy2D(ABC):
    """A distribution of points in the plane. To add one, write a class with `draw` and `extent`, and a YAML.

    With `n`, every run trains on the same fixed set of n points; without, on fresh points at each step.

    Raises:
        ConfigError: n is not positive.
    """

    shape = (2,)

    extent: float
    """Half the side of the square around the origin in which histograms are taken. It should hold all the mass."""

    def __init__(self, n: int | None = None) -> None:
        if n is not None and n < 1:
            raise ConfigError(f"data: n={n} must be positive, or null for fresh points at each step")
        self.n = n

    @abstractmethod
    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw independent points [n, 2] with torch's current random state."""

    def draw_set(self, n: int) -> Tensor:
        """Draw the points [n, 2] of a fixed set. They may be spread more evenly than independent ones."""
        return self.draw(n)

    @property
    def gaussians(self) -> tuple[Tensor, Tensor] | None:
        """Means [M, 2] and standard deviations [M] if the distribution is a mixture of Gaussians, else None."""
        return None

    def load(self) -> PointDataset:
        """Return the distribution as a data set."""
        if self.n is None:
            return PointDataset(self)
        with fork_seed("points"):
            return PointDataset(self, self.draw_set(self.n))


class PointDataset:
    """Points to train on: a fixed set [N, 2], or None for fresh points at each step. Evaluation draws fresh points."""

    def __init__(self, source: Toy2D, points_N2: Tensor | None = None) -> None:
        self.source, self.points_N2 = source, points_N2

    def batches(self, seed: int | None, device: torch.device, place: str = "auto") -> Batches:
        """Return the training batches; those of a fixed set come in the order in which images would be shown."""
        if self.points_N2 is None:
            return FreshBatches(self.source, device)
        return FixedBatches(self.points_N2, seed, device)

    def reals(self, n: int, seed: int, split: str = "held_out") -> Tensor:
        """Return n fresh points [n, 2] for evaluation."""
        with fork_seed("reals", seed):
            return self.source.draw(n)

    def describe(self) -> dict[str, Any]:
        """Return what a protocol records of the data."""
        description: dict[str, Any] = {"distribution": repr(self.source)}
        if self.points_N2 is not None:
            description["train"] = {"n": len(self.points_N2), "checksum": checksum(self.points_N2)}
        return description


class FreshBatches:
    """Batches that are drawn at each step with torch's current random state."""

    def __init__(self, source: Toy2D, device: torch.device) -> None:
        self.source, self.device = source, device

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return points [batch, 2]."""
        return self.source.draw(batch, self.device)


class FixedBatches:
    """Batches of a fixed set of vectors [N, D], such as points, which is whole on the device."""

    def __init__(self, values_ND: Tensor, seed: int | None, device: torch.device) -> None:
        self.values_ND = values_ND.to(device)
        self.order = Order(len(values_ND), seed, device)

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return vectors [batch, D]."""
        return self.values_ND[self.order.indices(nimg, batch)]


class Gaussians(Toy2D):
    """Isotropic Gaussians of equal weight, with means [M, 2] and standard deviations [M] per axis.

    A fixed set has the same number of points of each; if n is not a multiple of M, the first have one more. The extent
    is the first integer that is five standard deviations beyond every mean; less than 2e-6 of the mass is outside.
    """

    def __init__(self, means_M2: Tensor, std_M: Tensor, n: int | None) -> None:
        super().__init__(n)
        self.means_M2, self.std_M = means_M2, std_M
        self._on = {torch.device("cpu"): (means_M2, std_M)}  # kept on each device: copying at each draw would wait
        self.extent = float(math.ceil((means_M2.abs().amax(dim=1) + 5 * std_M).max().item()))

    @property
    def gaussians(self) -> tuple[Tensor, Tensor]:
        """Means [M, 2] and standard deviations per axis [M] of the modes."""
        return self.means_M2, self.std_M

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw independent points [n, 2] with torch's current random state."""
        return self._draw_from(integers(0, len(self.means_M2), n, device=device))

    def draw_set(self, n: int) -> Tensor:
        """Draw points [n, 2], the same number of each mode."""
        return self._draw_from(torch.arange(n) % len(self.means_M2))

    def _draw_from(self, mode_N: Tensor) -> Tensor:
        device = mode_N.device
        if device not in self._on:
            self._on[device] = self.means_M2.to(device), self.std_M.to(device)
        means_M2, std_M = self._on[device]
        return means_M2[mode_N] + std_M[mode_N, None] * normal(len(mode_N), 2, device=device)


class Ring(Gaussians):
    """Equal Gaussians with means (r sin θ, r cos θ), θ = 2πi/modes (MGGAN, section 5.1).

    `variance` is per axis: the paper's covariance is 0.02·I, a standard deviation of 0.141. The extent is then 3, the
    limit of the plots in the released code.
    """

    def __init__(self, modes: Modes, radius: float, variance: float, n: Points | None = None) -> None:
        _check_positive(modes=modes, radius=radius, variance=variance)
        angle_M = torch.arange(modes) * (2 * math.pi / modes)
        means_M2 = radius * torch.stack((angle_M.sin(), angle_M.cos()), dim=1)
        super().__init__(means_M2, torch.full((modes,), math.sqrt(variance)), n)
        self.radius = radius

    def __repr__(self) -> str:
        return f"Ring(modes={len(self.means_M2)}, radius={self.radius}, std={self.std_M[0]:.6g})"


class Grid(Gaussians):
    """side × side equal Gaussians with means evenly spaced on [-half_width, half_width]² (HMoG author's toy code).

    Raises:
        ConfigError: side is below 2, or a number is not positive.
    """

    def __init__(
        self, side: Annotated[int, Field(le=2**6)], half_width: float, std: float, n: Points | None = None
    ) -> None:
        _check_positive(side=side, half_width=half_width, std=std)
        if side < 2:
            raise ConfigError(f"data: side={side}: a grid needs at least two means per side")
        axis = torch.linspace(-half_width, half_width, side)
        super().__init__(torch.cartesian_prod(axis, axis), torch.full((side**2,), std), n)
        self.side, self.half_width, self.std = side, half_width, std

    def __repr__(self) -> str:
        return f"Grid(side={self.side}, half_width={self.half_width}, std={self.std})"


class Pair(Gaussians):
    """A narrow Gaussian at (-offset, offset) and a wide one at (offset, -offset) (HMoG author's toy code, unbalanced).

    They have equal weight, and the standard deviations `std`. The extent of the author's pair is 15, the limit of the
    author's plots.

    Raises:
        ConfigError: a number is not positive.
    """

    def __init__(self, offset: float, std: tuple[float, float], n: Points | None = None) -> None:
        _check_positive(offset=offset, narrow=std[0], wide=std[1])
        super().__init__(offset * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), torch.tensor(std), n)
        self.offset, self.std = offset, tuple(std)

    def __repr__(self) -> str:
        return f"Pair(offset={self.offset}, std={self.std})"


class RandomGMM(Gaussians):
    """Gaussians with means uniform in [-half_width, half_width]² and standard deviations uniform in [std[0], std[1]].

    `mixture_seed` decides the mixture, whatever the run's seed is. In the HMoG author's toy code, each run draws its
    own mixture, and each axis has its own standard deviation.

    Raises:
        ConfigError: a number is not positive, or std[0] exceeds std[1].
    """

    def __init__(
        self,
        components: Modes,
        half_width: float,
        std: tuple[float, float],
        mixture_seed: int,
        n: Points | None = None,
    ) -> None:
        low, high = std
        _check_positive(components=components, half_width=half_width, lowest_std=low, highest_std=high)
        if low > high:
            raise ConfigError(f"data: std={list(std)}: must be [lowest, highest]")
        with fork_seed("mixture", mixture_seed):
            means_M2 = half_width * (2 * torch.rand(components, 2) - 1)
            std_M = low + (high - low) * torch.rand(components)
        super().__init__(means_M2, std_M, n)
        self.half_width, self.std, self.mixture_seed = half_width, tuple(std), mixture_seed

    def __repr__(self) -> str:
        return (
            f"RandomGMM(components={len(self.means_M2)}, half_width={self.half_width}, std={self.std}, "
            f"mixture_seed={self.mixture_seed})"
        )


class Spiral(Toy2D):
    """(-t cos t, t sin t) plus noise from U(0, noise) per axis, t = √u · end, u from U(0, 1) (HMoG thesis, toy).

    `degrees` is the end of t. A fixed set has u evenly spaced from 0 to 1, as in the thesis. No point is outside the
    extent, which is 15 for the thesis's spiral, the limit of its author's plots.

    Raises:
        ConfigError: degrees is not positive, or noise is negative.
    """

    def __init__(self, degrees: float, noise: float, n: Points | None = None) -> None:
        super().__init__(n)
        _check_positive(degrees=degrees)
        if not 0 <= noise < math.inf:
            raise ConfigError(f"data: noise={noise} must not be negative")
        self.degrees, self.noise = degrees, noise
        self.extent = float(math.ceil(math.radians(degrees) + noise))

    def __repr__(self) -> str:
        return f"Spiral(degrees={self.degrees}, noise={self.noise})"

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw independent points [n, 2] with torch's current random state."""
        return self._points(uniform(n, device=device))

    def draw_set(self, n: int) -> Tensor:
        """Draw points [n, 2], evenly spaced along the spiral's area."""
        return self._points(torch.linspace(0, 1, n))

    def _points(self, u_N: Tensor) -> Tensor:
        t_N = u_N.sqrt() * math.radians(self.degrees)
        curve_N2 = torch.stack((-t_N * t_N.cos(), t_N * t_N.sin()), dim=1)
        return curve_N2 + self.noise * uniform(*curve_N2.shape, device=curve_N2.device)


def _check_positive(**values: float) -> None:
    if not all(0 < value < math.inf for value in values.values()):
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ConfigError(f"data: {shown} must all be positive")
