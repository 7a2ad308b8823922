"""Small grey-scale sets: scikit-learn's digits, MNIST and Fashion-MNIST."""

from __future__ import annotations

import struct
import zlib
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torchvision import datasets

from mixgan_cli.config.values import PathText
from mixgan_cli.data.archives import Archive, damage_errors
from mixgan_cli.data.dataset import ImageDataset, random_split
from mixgan_cli.data.images import Side, describe_resize, resize_to
from mixgan_cli.data.locate import PublishedSet, RemoteFile
from mixgan_cli.data.packed import Packed, as_labels
from mixgan_cli.errors import DataError

IDX = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
"""The files of MNIST and of sets in its format."""
MAX_IDX_BYTES = 2**27
"""Maximum size of one of them, unpacked [bytes]; 60,000 images are 47 MB."""
HELD_OUT_DIGITS = 297
"""Number of scikit-learn's digits that are held out."""


class Digits:
    """The 1,797 handwritten digits of 8×8 pixels with 17 grey levels in scikit-learn: 1,500, and 297 held out.

    They are the test set of UCI's digits (Alpaydin & Kaynak 1998), in the order of their 13 writers. So the last 297
    are not of the distribution of the others, and no generator of these can reach the ideal values of a metric.

    Args:
        size: pixels a side.
        labels: if true, keep the labels.
        split_seed: seed of the random choice of the 297; None: the last ones.
    """

    def __init__(self, size: Side, labels: bool, split_seed: NonNegativeInt | None = None) -> None:
        self.size, self.labels, self.split_seed = size, labels, split_seed
        self.shape = (1, size, size)

    def load(self) -> ImageDataset:
        """Return 1,500 digits to train on and 297 held out, with grey levels 0…16 scaled to 0…255."""
        from sklearn.datasets import load_digits  # imported here because it takes a second

        digits = load_digits()
        grey = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
        labels = torch.from_numpy(digits.target) if self.labels else None
        words = f"scikit-learn digits, {describe_resize((8, 8), self.size)}"
        packed = Packed(resize_to(grey, self.size), labels, words)
        if self.split_seed is not None:
            return random_split(packed, HELD_OUT_DIGITS, self.split_seed)
        train, held_out = torch.arange(len(packed)).tensor_split([-HELD_OUT_DIGITS])
        return ImageDataset(packed.subset(train), packed.subset(held_out))


def _remote(source: type[datasets.MNIST]) -> tuple[RemoteFile, ...]:
    """Return torchvision's addresses and checksums of the gzipped files."""
    mirror, folder = source.mirrors[0], f"{source.__name__}/raw"
    return tuple(RemoteFile(f"{mirror}{file}", f"{folder}/{file}", md5) for file, md5 in source.resources)


def _hint(title: str) -> str:
    return f"Put the four *-ubyte files, gzipped or not, into FOLDER/{title}/raw and give data.root=FOLDER"


class MNIST(PublishedSet[dict[str, str]]):
    """The 70,000 digits of MNIST, 28×28 (yann.lecun.com/exdb/mnist). The official test set is held out.

    A copy has the four idx files, gzipped or not, named with a dash or a dot, in a folder, zip or tar.
    """

    title = "MNIST"
    known_names = ("MNIST/raw", "MNIST", "MNIST.zip")  # torchvision's folder first
    remote = _remote(datasets.MNIST)
    download_hint = _hint("MNIST")

    def __init__(self, root: PathText | None, size: Side, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (1, size, size)

    def load(self) -> ImageDataset:
        """Return the official split, resized; download the set if there is no copy.

        Raises:
            DataError: there is no copy and the download failed, or a file is damaged (it is named).
        """
        self.fetch()
        archive, paths = self.locate()
        return ImageDataset(self._read(archive, paths, "train"), self._read(archive, paths, "t10k"))

    def recognise(self, archive: Archive) -> dict[str, str] | None:
        """Return {file: its path}; None if there are none at the top or in a folder with this set's name.

        Other sets have files of the same names, so other folders are not searched.

        Raises:
            DataError: only some of the files are there.
        """
        names = set(archive.names)
        for folder in ("", "raw/", f"{self.title}/", f"{self.title}/raw/"):
            found = {file: folder + name for file in IDX for name in _copies(file) if folder + name in names}
            if found and len(found) < len(IDX):
                missing = ", ".join(file for file in IDX if file not in found)
                raise DataError(f"{archive.root}: {missing}: there is no such file next to the others")
            if found:
                return found
        return None

    def _read(self, archive: Archive, paths: dict[str, str], split: Literal["train", "t10k"]) -> Packed:
        images, labels = (_read_idx(archive, paths[f"{split}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1"))
        labels_N = as_labels(labels.numpy(), len(images), f"{archive.root}: {split}")
        words = f"{self.title} {split}, {describe_resize(images.shape[-2:], self.size)}"
        return Packed(resize_to(images.unsqueeze(1), self.size), labels_N if self.labels else None, words)


class FashionMNIST(MNIST):
    """The 70,000 images of clothes of Fashion-MNIST, 28×28 (github.com/zalandoresearch/fashion-mnist).

    The official test set is held out.
    """

    title = "FashionMNIST"
    known_names = ("FashionMNIST/raw", "FashionMNIST", "FashionMNIST.zip")
    remote = _remote(datasets.FashionMNIST)
    download_hint = _hint("FashionMNIST")


def _copies(file: str) -> list[str]:
    """Return the names that a file of MNIST has in copies: on Kaggle, one with a dot, or one in a folder of its own."""
    return [name + end for name in (f"{file}/{file}", file.replace("-idx", ".idx"), file) for end in ("", ".gz")]


def _read_idx(archive: Archive, path: str) -> Tensor:
    """Return the array of an idx file: bytes 0, 0, 8 for uint8, the number of axes, their lengths, the values."""
    content = archive.read(path, MAX_IDX_BYTES)
    with damage_errors(archive.root, path):
        if path.endswith(".gz"):
            unpacker = zlib.decompressobj(wbits=31)
            content = unpacker.decompress(content, MAX_IDX_BYTES)
            if not unpacker.eof:
                raise EOFError(f"its end is missing, or beyond {MAX_IDX_BYTES:,} bytes")
        if content[:3] != b"\0\0\x08":
            raise ValueError("not an idx file of bytes")
        shape = struct.unpack_from(f">{content[3]}I", content, 4)
        return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())
