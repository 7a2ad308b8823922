"""Small image sets that are read whole: digits, clothes, and arrays of one's own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from mixgan_cli import hardware
from mixgan_cli.data.archives import Archive, load_npy
from mixgan_cli.data.dataset import ImageDataset, split_off
from mixgan_cli.data.download import Remote, fetch_unless_here
from mixgan_cli.data.packed import Packed
from mixgan_cli.data.places import local_copy
from mixgan_cli.data.resize import Side, resized, told
from mixgan_cli.errors import DataError


class Digits:
    """The 1,797 handwritten digits of 8×8 pixels with 17 grey levels in scikit-learn. The last 297 are held out.

    They are the test set of UCI's (Alpaydin & Kaynak 1998).
    """

    def __init__(self, size: Side, labels: bool) -> None:
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


IDX = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
"""The files of MNIST, and of sets made to look like it."""
MOST_IDX = 2**27
"""Bytes of one of them, unpacked: 60,000 pictures are 47 MB."""


def _remote(source: type[datasets.MNIST]) -> tuple[Remote, ...]:
    """Return where torchvision says the gzipped files are, with their checksums."""
    mirror, folder = source.mirrors[0], f"{source.__name__}/raw"
    return tuple(Remote(f"{mirror}{file}", f"{folder}/{file}", md5) for file, md5 in source.resources)


class MNIST:
    """The 70,000 digits of MNIST, 28×28 (yann.lecun.com/exdb/mnist). The official test set is held out.

    Accepted are the four idx files, as they are or gzipped, in a folder, zip or tar.
    """

    name: ClassVar[str] = "MNIST"
    remote: ClassVar[Sequence[Remote]] = _remote(datasets.MNIST)

    def __init__(self, root: str | None, size: Side, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (1, size, size)

    def load(self) -> ImageDataset:
        """Return the official split, resized; download the set where there is no copy.

        Raises:
            DataError: no local copy and no download, or a damaged file (named).
        """
        self.fetch()
        archive, paths = self._copy()
        return ImageDataset(self._read(archive, paths, "train"), self._read(archive, paths, "t10k"))

    def fetch(self) -> None:
        """Download the set, unless there is a copy. Raises DataError where that fails."""
        fetch_unless_here(self.name, self.root, self.remote, self._copy)

    def _copy(self) -> tuple[Archive, dict[str, str]]:
        """Return where the files are, and each one's path there."""
        usual = (f"{self.name}/raw", self.name, f"{self.name}.zip")  # torchvision's folder first
        way_out = f"Put the four *-ubyte files, gzipped or not, into FOLDER/{self.name}/raw and give data.root=FOLDER"
        return local_copy(self.name, self.root, usual, self._recognise, way_out)

    def _recognise(self, archive: Archive) -> dict[str, str] | None:
        """Find the files at the top or in folders of this set's name: another set's files have the same names."""
        there = set(archive.names)
        for folder in ("", "raw/", f"{self.name}/", f"{self.name}/raw/"):
            found = {file: folder + name for file in IDX for name in (file, f"{file}.gz") if folder + name in there}
            if found and len(found) < len(IDX):
                missing = ", ".join(file for file in IDX if file not in found)
                raise DataError(f"{archive.root}: {missing}: there is no such file beside the others")
            if found:
                return found
        return None

    def _read(self, archive: Archive, paths: dict[str, str], part: Literal["train", "t10k"]) -> Packed:
        images, labels = (_idx(archive, paths[f"{part}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1"))
        if len(labels) != len(images):
            raise DataError(f"{archive.root}: {part}: {len(labels)} labels for {len(images)} images")
        words = f"{self.name} {part}, {told(images.shape[-1], self.size)}"
        return Packed(resized(images.unsqueeze(1), self.size), labels.long() if self.labels else None, words)


class FashionMNIST(MNIST):
    """The 70,000 pictures of clothes of Fashion-MNIST, 28×28 (github.com/zalandoresearch/fashion-mnist).

    The official test set is held out.
    """

    name = "FashionMNIST"
    remote = _remote(datasets.FashionMNIST)


def _idx(archive: Archive, path: str) -> Tensor:
    """Return the bytes of an idx file: 0, 0, 8 for uint8, the number of axes, their lengths, the values."""
    content = archive.read(path, MOST_IDX)
    try:
        if path.endswith(".gz"):
            unpacked = zlib.decompressobj(wbits=31)
            content = unpacked.decompress(content, MOST_IDX)
            if not unpacked.eof:
                raise EOFError(f"its end is missing, or beyond {MOST_IDX:,} bytes")
        if content[:3] != b"\0\0\x08":
            raise ValueError("no idx file of bytes")
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())
    except (ValueError, IndexError, struct.error, EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{archive.root}: {path}: truncated or damaged ({type(error).__name__}: {error}). "
            "Delete it and fetch it again"
        ) from error


class Arrays:
    """Images from a .npy or .npz file: uint8, [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3."""

    def __init__(
        self, root: str, images: str, size: Side | None, held_out: int | float, split_seed: int, labels: bool
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
    """Return uint8 images [N, C, H, W] from an array with channels first, last or absent.

    Raises:
        DataError: the array has another type or shape.
    """
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
    """Return uint8 images [N, 1 or 3, H, W]: grey repeated, or colour weighted to grey as Pillow does."""
    if images_NCHW.shape[1] == channels:
        return images_NCHW
    if channels == 3:
        return images_NCHW.expand(-1, 3, -1, -1)
    red, green, blue = images_NCHW.int().unbind(dim=1)
    grey = (red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16  # ITU-R 601, in Pillow's fixed point
    return grey.to(torch.uint8).unsqueeze(1)
