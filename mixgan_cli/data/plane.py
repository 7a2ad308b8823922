"""Distributions in the plane as data sets: fresh points each step, or a fixed set of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from mixgan_cli.data.batches import Batches, Order
from mixgan_cli.data.packed import checksum
from mixgan_cli.errors import ConfigError
from mixgan_cli.randomness import seeded


class Plane(ABC):
    """A distribution of points. A new one is a class with `draw` and `window`, and a YAML in conf/data/.

    With `n`, a run trains on a fixed set of that many points, the same for every run; without, on fresh ones.

    Raises:
        ConfigError: n is not positive.
    """

    shape = (2,)

    window: float
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
        with seeded("points"):
            return FixedPoints(self, self.draw_set(self.n))


class FreshPoints:
    """A distribution to draw from: each batch is new, and the loop's random state says which."""

    def __init__(self, source: Plane) -> None:
        self.source = source

    def batches(self, seed: int | None, device: torch.device, place: str = "auto") -> Batches:
        """Return the batches a run trains on."""
        return FreshBatches(self.source, device)

    def reals(self, n: int, seed: int, split: str = "held_out") -> Tensor:
        """Return n fresh points [n, 2] for evaluation."""
        with seeded("reals", seed):
            return self.source.draw(n)

    def describe(self) -> dict[str, Any]:
        """Say what a protocol says of the data."""
        return {"distribution": repr(self.source)}


class FixedPoints(FreshPoints):
    """A fixed set [N, 2] to train on. Those for evaluation are fresh."""

    def __init__(self, source: Plane, points_N2: Tensor) -> None:
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

    def __init__(self, source: Plane, device: torch.device) -> None:
        self.source, self.device = source, device

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return points [batch, 2]."""
        return self.source.draw(batch, self.device)


class FixedBatches:
    """A set of points, whole on the device, in an order that is a function of (seed, point number)."""

    def __init__(self, points_N2: Tensor, seed: int | None, device: torch.device) -> None:
        self.points_N2 = points_N2.to(device)
        self.order = Order(len(points_N2), seed, device)

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return points [batch, 2]."""
        return self.points_N2[self.order.at(nimg, batch)]
