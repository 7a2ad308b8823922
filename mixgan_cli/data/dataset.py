"""What the program needs of a data set: batches to train on, and real samples to evaluate with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from mixgan_cli.config.compose import groups
from mixgan_cli.data.batches import Batches, Place, make_batches
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.random import permutation

Split = Literal["held_out", "train"]
PARTS = ("train", "training", "test", "val", "images", "img", "imgs", "jpg", "png", "data")
"""Names of folders and files that say nothing of the set."""
MAX_NAME = 40
"""Most characters of a name that is made from a path."""


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


def name_of_files(root: str | None) -> str | None:
    """Return a name for a set of the user's own: that of its folder, or of its archive without the suffix.

    Other characters than those of a folder's name become "_". A part such as `train` follows the folder above it, and
    a name that is one of mixgan's data sets is marked as the user's own, so that the two are not compared by name.
    """
    if root is None:
        return None
    path = Path(os.path.abspath(root))  # noqa: PTH100 (a name such as .. is resolved, a link keeps its own)
    name = re.sub(r"(?i)\.(zip|np[yz]|tar|tar\.gz|tgz)$", "", path.name)
    if name.lower() in PARTS and path.parent.name:
        name = f"{path.parent.name}_{name}"
    name = re.sub(r"[^\w.-]+", "_", name).strip("_-.")[:MAX_NAME] or "images"
    return f"own_{name}" if name in groups()["data"] else name


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
