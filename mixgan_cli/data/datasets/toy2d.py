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


class Toy2D(ABC):
    """A distribution of points. A new one is a class with `draw` and `extent`, and a YAML in conf/data/.

    With `n`, a run trains on a fixed set of that many points, the same for every run; without, on fresh ones.

    Raises:
        ConfigError: n is not positive.
    """

    shape = (2,)

    extent: float
    """Half the side of the square about the origin in which histograms are taken; it should hold all the mass."""

    def __init__(self, n: int | None = None) -> None:
        if n is not None and n < 1:
            raise ConfigError(f"data: n={n} must be positive, or null for fresh points each step")
        self.n = n

    @abstractmethod
    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw independent points [n, 2] with torch's current random state."""

    def draw_set(self, n: int) -> Tensor:
        """Draw the points [n, 2] of a fixed set. They may be spread more evenly than independent ones."""
        return self.draw(n)

    @property
    def gaussians(self) -> tuple[Tensor, Tensor] | None:
        """Means [M, 2] and standard deviations [M], where the distribution is such a mixture."""
        return None

    def load(self) -> FreshPoints:
        """Return the distribution as a data set."""
        if self.n is None:
            return FreshPoints(self)
        with fork_seed("points"):
            return FixedPoints(self, self.draw_set(self.n))


class FreshPoints:
    """A distribution to draw from: each batch is new, and the loop's random state says which."""

    def __init__(self, source: Toy2D) -> None:
        self.source = source

    def batches(self, seed: int | None, device: torch.device, place: str = "auto") -> Batches:
        """Return the batches a run trains on."""
        return FreshBatches(self.source, device)

    def reals(self, n: int, seed: int, split: str = "held_out") -> Tensor:
        """Return n fresh points [n, 2] for evaluation."""
        with fork_seed("reals", seed):
            return self.source.draw(n)

    def describe(self) -> dict[str, Any]:
        """Say what a protocol says of the data."""
        return {"distribution": repr(self.source)}


class FixedPoints(FreshPoints):
    """A fixed set [N, 2] to train on. Those for evaluation are fresh."""

    def __init__(self, source: Toy2D, points_N2: Tensor) -> None:
        super().__init__(source)
        self.points_N2 = points_N2

    def batches(self, seed: int | None, device: torch.device, place: str = "auto") -> Batches:
        """Return the batches a run trains on, in the order in which images would be shown."""
        return FixedBatches(self.points_N2, seed, device)

    def describe(self) -> dict[str, Any]:
        """Say what a protocol says of the data."""
        return {**super().describe(), "train": {"n": len(self.points_N2), "checksum": checksum(self.points_N2)}}


class FreshBatches:
    """Batches drawn anew each time."""

    def __init__(self, source: Toy2D, device: torch.device) -> None:
        self.source, self.device = source, device

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return points [batch, 2]."""
        return self.source.draw(batch, self.device)


class FixedBatches:
    """A set of points, whole on the device, in an order that is a function of (seed, point number)."""

    def __init__(self, points_N2: Tensor, seed: int | None, device: torch.device) -> None:
        self.points_N2 = points_N2.to(device)
        self.order = Order(len(points_N2), seed, device)

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return points [batch, 2]."""
        return self.points_N2[self.order.indices(nimg, batch)]


Modes = Annotated[int, Field(le=2**12)]
Points = Annotated[int, Field(le=2**24)]


class Gaussians(Toy2D):
    """Isotropic Gaussians of equal weight, means [M, 2] and standard deviations [M] per axis.

    A fixed set has as many points of each; where n is not a multiple of M, the first have one more. The extent ends at
    the first whole number five standard deviations beyond every mean, which leaves less than 2e-6 of the mass outside.
    """

    def __init__(self, means_M2: Tensor, std_M: Tensor, n: int | None) -> None:
        super().__init__(n)
        self.means_M2, self.std_M = means_M2, std_M
        self._on = {torch.device("cpu"): (means_M2, std_M)}
        """The same on each device where points were drawn: to copy them there each time would be to wait for it."""
        self.extent = float(math.ceil((means_M2.abs().amax(dim=1) + 5 * std_M).max().item()))

    @property
    def gaussians(self) -> tuple[Tensor, Tensor]:
        """The modes: means [M, 2] and standard deviations per axis [M]."""
        return self.means_M2, self.std_M

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw independent points [n, 2] with torch's current random state."""
        return self._of_modes(integers(0, len(self.means_M2), n, device=device))

    def draw_set(self, n: int) -> Tensor:
        """Draw points [n, 2], as many of each mode."""
        return self._of_modes(torch.arange(n) % len(self.means_M2))

    def _of_modes(self, mode_N: Tensor) -> Tensor:
        device = mode_N.device
        if device not in self._on:
            self._on[device] = self.means_M2.to(device), self.std_M.to(device)
        means_M2, std_M = self._on[device]
        return means_M2[mode_N] + std_M[mode_N, None] * normal(len(mode_N), 2, device=device)


class Ring(Gaussians):
    """Equal Gaussians with means (r sin θ, r cos θ), θ = 2πi/modes (MGGAN, section 5.1).

    `variance` is per axis: the paper's covariance is 0.02·I, a standard deviation of 0.141. The extent is then 3, the
    limit of the plots in the authors' code.
    """

    def __init__(self, modes: Modes, radius: float, variance: float, n: Points | None = None) -> None:
        _positive(modes=modes, radius=radius, variance=variance)
        angle_M = torch.arange(modes) * (2 * math.pi / modes)
        means_M2 = radius * torch.stack((angle_M.sin(), angle_M.cos()), dim=1)
        super().__init__(means_M2, torch.full((modes,), math.sqrt(variance)), n)
        self.radius = radius

    def __repr__(self) -> str:
        return f"Ring(modes={len(self.means_M2)}, radius={self.radius}, std={self.std_M[0]:.6g})"


class Grid(Gaussians):
    """side × side equal Gaussians, their means evenly spaced on [-half_width, half_width]² (HMoG author's toy code).

    Raises:
        ConfigError: fewer than two a side, or a number that is not positive.
    """

    def __init__(
        self, side: Annotated[int, Field(le=2**6)], half_width: float, std: float, n: Points | None = None
    ) -> None:
        _positive(side=side, half_width=half_width, std=std)
        if side < 2:
            raise ConfigError(f"data: side={side}: a grid has two means a side or more")
        axis = torch.linspace(-half_width, half_width, side)
        super().__init__(torch.cartesian_prod(axis, axis), torch.full((side**2,), std), n)
        self.side, self.half_width, self.std = side, half_width, std

    def __repr__(self) -> str:
        return f"Grid(side={self.side}, half_width={self.half_width}, std={self.std})"


class Pair(Gaussians):
    """A narrow Gaussian at (-offset, offset) and a wide one at (offset, -offset) (HMoG author's toy code, unbalanced).

    They weigh the same; `std` is that of each. The extent is 15 for the author's, the limit of his plots too.

    Raises:
        ConfigError: a number that is not positive.
    """

    def __init__(self, offset: float, std: tuple[float, float], n: Points | None = None) -> None:
        _positive(offset=offset, narrow=std[0], wide=std[1])
        super().__init__(offset * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), torch.tensor(std), n)
        self.offset, self.std = offset, tuple(std)

    def __repr__(self) -> str:
        return f"Pair(offset={self.offset}, std={self.std})"


class RandomGMM(Gaussians):
    """Gaussians with means in [-half_width, half_width]² and standard deviations between two, all drawn uniformly.

    `mixture_seed` names the mixture, whatever the run's seed (HMoG author's toy code; there each run draws its own, and
    either axis has a standard deviation of its own).

    Raises:
        ConfigError: a number that is not positive, or standard deviations whose first is not the least.
    """

    def __init__(
        self,
        components: Modes,
        half_width: float,
        std: tuple[float, float],
        mixture_seed: int,
        n: Points | None = None,
    ) -> None:
        least, most = std
        _positive(components=components, half_width=half_width, least=least, most=most)
        if least > most:
            raise ConfigError(f"data: std={list(std)}: the first should be the least, the second the most")
        with fork_seed("mixture", mixture_seed):
            means_M2 = half_width * (2 * torch.rand(components, 2) - 1)
            std_M = least + (most - least) * torch.rand(components)
        super().__init__(means_M2, std_M, n)
        self.half_width, self.std, self.mixture_seed = half_width, tuple(std), mixture_seed

    def __repr__(self) -> str:
        return (
            f"RandomGMM(components={len(self.means_M2)}, half_width={self.half_width}, std={self.std}, "
            f"mixture_seed={self.mixture_seed})"
        )


class Spiral(Toy2D):
    """(-t cos t, t sin t) plus noise from U(0, noise) on either axis, t = √u · end, u from U(0, 1) (HMoG thesis, toy).

    `degrees` is the end of t. A fixed set has u evenly spaced from 0 to 1, as in the thesis. No point is outside the
    extent: 15 for the thesis's spiral, the limit of its author's plots too.

    Raises:
        ConfigError: degrees that are not positive, or noise that is negative.
    """

    def __init__(self, degrees: float, noise: float, n: Points | None = None) -> None:
        super().__init__(n)
        _positive(degrees=degrees)
        if not 0 <= noise < math.inf:
            raise ConfigError(f"data: noise={noise} must not be negative")
        self.degrees, self.noise = degrees, noise
        self.extent = float(math.ceil(math.radians(degrees) + noise))

    def __repr__(self) -> str:
        return f"Spiral(degrees={self.degrees}, noise={self.noise})"

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """Draw independent points [n, 2] with torch's current random state."""
        return self._at(uniform(n, device=device))

    def draw_set(self, n: int) -> Tensor:
        """Draw points [n, 2], evenly along the spiral's area."""
        return self._at(torch.linspace(0, 1, n))

    def _at(self, u_N: Tensor) -> Tensor:
        t_N = u_N.sqrt() * math.radians(self.degrees)
        curve_N2 = torch.stack((-t_N * t_N.cos(), t_N * t_N.sin()), dim=1)
        return curve_N2 + self.noise * uniform(*curve_N2.shape, device=curve_N2.device)


def _positive(**values: float) -> None:
    if not all(0 < value < math.inf for value in values.values()):
        told = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ConfigError(f"data: {told} must all be positive")
