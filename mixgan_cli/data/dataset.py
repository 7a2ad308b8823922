"""A data set as the rest of the program sees it: batches to train on, reals to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mixgan_cli.data.batches import Batches, Place, batches_of
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.random import permutation

Split = Literal["held_out", "train"]


class Dataset(Protocol):
    """Loaded data."""

    def batches(self, seed: int | None, device: torch.device, place: Place = "auto") -> Batches:
        """Return the batches a run trains on, in the order a seed names; None: as they stand. Kept at `place`."""

    def reals(self, n: int, seed: int, split: Split = "held_out") -> Tensor:
        """Return at most n samples of a split, in random order: images uint8 or points [n, D]; held out: never seen."""

    def describe(self) -> Mapping[str, Any]:
        """Say what a protocol says of the data."""


class Source(Protocol):
    """Where data come from. A new one is a class with these two, and a YAML in conf/data/."""

    shape: tuple[int, ...]
    """Of one sample: (C, H, W) for images, (D,) for points. Known before anything is loaded."""

    def load(self) -> Dataset:
        """Read and prepare the data. Raises DataError with what to do about it."""


def size_of(dataset: Dataset, split: Split) -> int | None:
    """Return the number of samples in a split; None if it has no fixed number, such as points drawn at every step."""
    n: int | None = dataset.describe().get(split, {}).get("n")
    return n


@dataclass(frozen=True)
class ImageDataset:
    """Images to train on, and images held out."""

    train: Packed
    held_out: Packed

    def batches(self, seed: int | None, device: torch.device, place: Place = "auto") -> Batches:
        """Return the batches a run trains on; see `batches_of`."""
        return batches_of(self.train, seed, device, place)

    def reals(self, n: int, seed: int, split: Split = "held_out") -> Tensor:
        """Return at most n images of a split uint8 [n, C, H, W], a choice and an order that the seed names.

        The order is random because files often come by class, and MS-SSIM pairs neighbours.
        """
        packed = self.held_out if split == "held_out" else self.train
        return packed[permutation(len(packed), "reals", seed)[:n]]

    def describe(self) -> dict[str, Any]:
        """Say what a protocol says of the data."""
        return {"train": self.train.describe(), "held_out": self.held_out.describe()}


def split_off(packed: Packed, wanted: int | float, seed: int) -> ImageDataset:
    """Hold out so many images at random, or such a share of them, always the same ones for a seed.

    Raises:
        DataError: either side would be empty.
    """
    held_out = wanted if isinstance(wanted, int) else round(wanted * len(packed))
    if not 0 < held_out < len(packed):
        raise DataError(f"data.held_out={wanted}: of {len(packed)} images, that holds out {held_out}")
    order = permutation(len(packed), "split", seed)
    return ImageDataset(packed.subset(order[held_out:].sort().values), packed.subset(order[:held_out].sort().values))
