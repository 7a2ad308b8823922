"""What the program needs of a data set: batches to train on, and real samples to evaluate with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mixgan_cli.data.batches import Batches, Place, make_batches
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.random import permutation

Split = Literal["held_out", "train"]


class Dataset(Protocol):
    """Loaded data."""

    def batches(self, seed: int | None, device: torch.device, place: Place = "auto") -> Batches:
        """Return the training batches, in the order that `seed` decides (None: the set's own), kept at `place`."""

    def reals(self, n: int, seed: int, split: Split = "held_out") -> Tensor:
        """Return at most n samples of a split in random order: images uint8 [n, C, H, W] or points float32 [n, D]."""

    def describe(self) -> Mapping[str, Any]:
        """Return what a protocol records of the data."""


class Source(Protocol):
    """A data set in the configuration. To add one, write a class with these two and a YAML in conf/data/."""

    shape: tuple[int, ...]
    """The shape of one sample, known before anything is loaded: (C, H, W) for images, (D,) for points."""

    def load(self) -> Dataset:
        """Read and prepare the data. Raises DataError with the steps to take."""


def size_of(dataset: Dataset, split: Split) -> int | None:
    """Return the number of samples in a split; None if it has no fixed number, such as points drawn at every step."""
    n: int | None = dataset.describe().get(split, {}).get("n")
    return n


@dataclass(frozen=True)
class ImageDataset:
    """Images to train on, and held-out images to evaluate with."""

    train: Packed
    held_out: Packed

    def batches(self, seed: int | None, device: torch.device, place: Place = "auto") -> Batches:
        """Return the training batches; see `make_batches`."""
        return make_batches(self.train, seed, device, place)

    def reals(self, n: int, seed: int, split: Split = "held_out") -> Tensor:
        """Return at most n images of a split, uint8 [n, C, H, W], in a random order that `seed` decides.

        The order is random because files are often sorted by class, and MS-SSIM compares neighbours.
        """
        packed = self.held_out if split == "held_out" else self.train
        return packed[permutation(len(packed), "reals", seed)[:n]]

    def describe(self) -> dict[str, Any]:
        """Return what a protocol records of the data."""
        return {"train": self.train.describe(), "held_out": self.held_out.describe()}


def random_split(packed: Packed, held_out: int | float, seed: int) -> ImageDataset:
    """Hold out images at random: `held_out` is their number, or their share if it is a float.

    Raises:
        DataError: no image would be left to train on, or none would be held out.
    """
    n = held_out if isinstance(held_out, int) else round(held_out * len(packed))
    if not 0 < n < len(packed):
        raise DataError(f"data.held_out={held_out}: holds out {n} of {len(packed)} images; leave some on either side")
    order = permutation(len(packed), "split", seed)
    return ImageDataset(packed.subset(order[n:].sort().values), packed.subset(order[:n].sort().values))
