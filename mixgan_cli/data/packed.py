"""A prepared data set: one uint8 array, in memory or mapped from a file, with its preprocessing in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.errors import DataError

ROWS = 4096
"""Number of images that are read at a time when all are read."""
MAX_CLASSES = 2**16
"""Maximum number of classes; ImageNet-21k has 21,841. Larger numbers are names of something, not classes."""


def checksum(samples: Tensor) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the shape and values of samples [N, …]."""
    return _digest(tuple(samples.shape), samples.split(ROWS))


def as_labels(numbers: np.ndarray | Sequence[int], n: int, where: str, first: int = 0) -> Tensor:
    """Return labels int64 [n], 0, 1, …, from the numbers of the classes of n images.

    Args:
        numbers: [n] or [n, 1].
        n: number of images.
        where: the file, for messages.
        first: number of the first class.

    Raises:
        DataError: they are not one integer per image, or no numbers of classes.
    """
    array = np.asarray(numbers)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = ". Of one-hot labels, take labels.argmax(axis=1)" if array.ndim == 2 else ""
        raise DataError(f"{where}: labels must be one number per image, not {list(array.shape)}{hint}")
    if array.dtype.kind not in "iub":
        kind = "text" if array.dtype.kind in "SU" else array.dtype
        raise DataError(
            f"{where}: labels must be integers, not {kind}. np.unique(labels, return_inverse=True)[1] numbers them"
        )
    if len(array) != n:
        raise DataError(f"{where}: {len(array)} labels for {n} images")
    if n and not first <= array.min() <= array.max() < first + MAX_CLASSES:
        raise DataError(
            f"{where}: labels must be {first}, {first + 1}, …, at most {first + MAX_CLASSES - 1:,}; they are from "
            f"{array.min():,} to {array.max():,}"
        )
    return torch.from_numpy(array.astype(np.int64)) - first


@dataclass(frozen=True)
class Packed:
    """Images uint8 [N, C, H, W], labels int64 [N] or None, and the preprocessing in words.

    A subset refers to rows `rows_N` of a stored array [M, C, H, W], which may be larger than the memory: images are
    copied only when they are used.
    """

    stored_MCHW: Tensor
    stored_labels_M: Tensor | None
    preprocessing: str
    rows_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stored_MCHW if self.rows_N is None else self.rows_N)

    def __getitem__(self, indices_B: Tensor) -> Tensor:
        """Return the images at these indices [B, C, H, W], in memory."""
        return self.stored_MCHW[self._rows(indices_B)]

    def gather(self, indices_B: Tensor, into_BCHW: Tensor) -> Tensor:
        """Copy the images at these indices into a tensor uint8 [B, C, H, W], and return it."""
        return torch.index_select(self.stored_MCHW, 0, self._rows(indices_B), out=into_BCHW)

    def _rows(self, indices_B: Tensor) -> Tensor:
        return indices_B if self.rows_N is None else self.rows_N[indices_B]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W)."""
        return tuple(self.stored_MCHW.shape[1:])

    @property
    def nbytes(self) -> int:
        """The size of the images in bytes."""
        return len(self) * self.stored_MCHW[0].numel()

    @cached_property
    def images_NCHW(self) -> Tensor:
        """All images [N, C, H, W]; those of a subset are copied into memory."""
        return self.stored_MCHW if self.rows_N is None else self.stored_MCHW[self.rows_N]

    @cached_property
    def labels_N(self) -> Tensor | None:
        """All labels [N], or None."""
        labels = self.stored_labels_M
        return labels if labels is None or self.rows_N is None else labels[self.rows_N]

    @cached_property
    def checksum(self) -> str:
        """The checksum of shape and pixels."""
        if self.rows_N is None:
            return checksum(self.stored_MCHW)
        return _digest((len(self), *self.shape), (self.stored_MCHW[rows] for rows in self.rows_N.split(ROWS)))

    def in_memory(self) -> Packed:
        """Return the same set, read into memory."""
        return Packed(self.images_NCHW.clone(), self.labels_N, self.preprocessing)

    def subset(self, indices: Tensor) -> Packed:
        """Return the set of the images at these indices [n], in this order."""
        rows = indices if self.rows_N is None else self.rows_N[indices]
        return Packed(self.stored_MCHW, self.stored_labels_M, self.preprocessing, rows)

    def without_labels(self) -> Packed:
        """Return the same images without labels."""
        return Packed(self.stored_MCHW, None, self.preprocessing, self.rows_N)

    def describe(self) -> dict[str, str | int]:
        """Return what a protocol records of the set: number of images, checksum, preprocessing."""
        return {"n": len(self), "checksum": self.checksum, "preprocessing": self.preprocessing}


def _digest(shape: tuple[int, ...], blocks: Iterable[Tensor]) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for block in blocks:
        digest.update(block.contiguous().numpy().data)
    return digest.hexdigest()[:16]
