"""Small grey-scale sets: scikit-learn's digits, MNIST and Fashion-MNIST."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Remote, fetch_unless_here, local_copy
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.images import Side, resized, told
from mixgan_cli.data.packed import Packed
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
        return ImageDataset(packed.subset(order[:1500]), packed.subset(order[1500:]))


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
