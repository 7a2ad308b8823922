"""Small image sets that are read whole: digits, clothes, and arrays of one's own."""

from __future__ import annotations

import os
import urllib.error
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from mixgan_cli import hardware
from mixgan_cli.data.archives import MOST_BYTES, load_npy
from mixgan_cli.data.dataset import ImageDataset, split_off
from mixgan_cli.data.packed import Packed
from mixgan_cli.data.prepared import cache_dir
from mixgan_cli.data.resize import resized, told
from mixgan_cli.errors import DataError


class Digits:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels with 17 grey levels. The last 297 are held out."""

    def __init__(self, size: int, labels: bool) -> None:
        self.size, self.labels = size, labels
        self.shape = (1, size, size)

    def load(self) -> ImageDataset:
        """Return 1,500 digits to train on and 297 held out, grey 0…16 spread over 0…255."""
        from sklearn.datasets import load_digits  # here, for it takes a second to import

        digits = load_digits()
        grey = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(digits.target) if self.labels else None
        packed = Packed(resized(grey, self.size), labels, f"scikit-learn digits, {told(8, self.size)}")
        order = torch.arange(len(packed))
        return ImageDataset(packed.take(order[:1500]), packed.take(order[1500:]))


class MNIST:
    """The 70,000 digits of MNIST, 28×28. The official test set is held out."""

    archive = datasets.MNIST

    def __init__(self, root: str | None, size: int, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (1, size, size)

    def load(self) -> ImageDataset:
        """Return the official split, resized.

        Raises:
            DataError: no local copy and no download, or a damaged file (named).
        """
        folder = self._raw_folder()
        return ImageDataset(self._read(folder, "train"), self._read(folder, "t10k"))

    def fetch(self) -> None:
        """Download the set, unless there is a copy. Raises DataError where that fails."""
        self._raw_folder()

    def _raw_folder(self) -> Path:
        """Look for a local copy, as torchvision lays it out or the raw files alone; else download one."""
        name = self.archive.__name__
        places = (
            [Path(self.root)] if self.root else [Path(p) for p in (os.environ.get("MIXGAN_DATA"), cache_dir()) if p]
        )
        folders = [place / name / "raw" for place in places]
        if self.root:  # a folder that was named for this set may hold the files without the set's name
            folders += [Path(self.root) / "raw", Path(self.root)]
        for folder in folders:
            if (folder / "train-images-idx3-ubyte").is_file():
                return folder
        if self.root:
            raise DataError(
                f"data.root={self.root}: no {name} there. Expected {Path(self.root) / name / 'raw'}/*-ubyte"
            )
        try:
            self.archive(str(cache_dir()), download=True)
        except (RuntimeError, OSError, urllib.error.URLError) as error:
            raise DataError(
                f"{name}: no local copy in {', '.join(map(str, places))}, and the download failed ({error}). "
                f"Put the four *-ubyte files into FOLDER/{name}/raw and give data.root=FOLDER"
            ) from error
        return cache_dir() / name / "raw"

    def _read(self, folder: Path, part: Literal["train", "t10k"]) -> Packed:
        images_path, labels_path = folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"
        images = _whole(read_image_file, images_path).unsqueeze(1)
        words = f"{self.archive.__name__} {part}, {told(images.shape[-1], self.size)}"
        labels = _whole(read_label_file, labels_path)
        if len(labels) != len(images):
            raise DataError(f"{labels_path}: {len(labels)} labels for {len(images)} images")
        return Packed(resized(images, self.size), labels if self.labels else None, words)


class FashionMNIST(MNIST):
    """The 70,000 pictures of clothes of Fashion-MNIST, 28×28. The official test set is held out."""

    archive = datasets.FashionMNIST


def _whole(read, path: Path) -> Tensor:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        return read(str(path))
    except Exception as error:  # whatever a reader stumbles over, it is the file that is wrong
        raise DataError(
            f"{path}: truncated or damaged ({type(error).__name__}: {error}). Delete it and fetch it again"
        ) from error


class Arrays:
    """Images from a .npy or .npz file: uint8, [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3."""

    def __init__(
        self, root: str, images: str, size: int | None, held_out: int | float, split_seed: int, labels: bool
    ) -> None:
        self.root, self.images, self.size = root, images, size
        self.held_out, self.split_seed, self.labels = held_out, split_seed, labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, as it will be prepared."""
        channels, height, width = self._images_NCHW.shape[1:]
        return (channels, self.size or height, self.size or width)

    def load(self) -> ImageDataset:
        """Return the images, resized where a size is given.

        Raises:
            DataError: the file is missing, damaged, or holds no such array of images.
        """
        images, words = self._images_NCHW, "as they are"
        if self.size is not None:
            images, words = resized(images, self.size), told(images.shape[-1], self.size)
        if self.labels and Path(self.root).suffix != ".npz":
            raise DataError(
                f"data.labels=true: {self.root} holds one array; labels take an .npz with an array `labels`"
            )
        labels = torch.from_numpy(self._array("labels").astype(np.int64)) if self.labels else None
        packed = Packed(images, labels, f"{Path(self.root).name}, {words}")
        return split_off(packed, self.held_out, self.split_seed)

    @cached_property
    def _images_NCHW(self) -> Tensor:
        return as_images(self._array(self.images), self.root)

    def _array(self, name: str) -> np.ndarray:
        return read_array(Path(self.root), name)


def read_array(path: Path, name: str) -> np.ndarray:
    """Return the array of a .npy file, or the one called `name` of an .npz file.

    Raises:
        DataError: the file is missing or damaged, or there is no such array.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        loaded = load_npy(path, hardware.memory() // 2)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if name not in loaded:
                raise DataError(f"{path}: no array {name!r}; there is {', '.join(loaded)}")
            return loaded[name]
    except DataError:
        raise
    except Exception as error:  # whatever the reader stumbles over, it is the file that is wrong
        raise DataError(f"{path}: not a .npy or .npz of numbers, or damaged ({error})") from error


def as_images(array: np.ndarray, path: str | Path) -> Tensor:
    """Return uint8 images [N, C, H, W] from an array with channels first, last or absent."""
    if array.dtype != np.uint8:
        raise DataError(f"{path}: images should be uint8 (0…255), not {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(f"{path}: images should be [N, H, W], [N, H, W, C] or [N, C, H, W], not {list(array.shape)}")
    return torch.from_numpy(np.ascontiguousarray(array))


def in_channels(images_NCHW: Tensor, channels: int) -> Tensor:
    """Return uint8 images with 1 or 3 channels: grey repeated, or colour weighted to grey as Pillow does."""
    if images_NCHW.shape[1] == channels:
        return images_NCHW
    if channels == 3:
        return images_NCHW.expand(-1, 3, -1, -1)
    red, green, blue = images_NCHW.int().unbind(dim=1)
    grey = (red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16  # ITU-R 601, in Pillow's fixed point
    return grey.to(torch.uint8).unsqueeze(1)
