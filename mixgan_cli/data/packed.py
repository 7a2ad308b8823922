"""A prepared data set: one uint8 array, in memory or mapped from a file, with its preprocessing in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

ROWS = 4096
"""Number of images that are read at a time when all are read."""


def checksum(samples: Tensor) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the shape and values of samples [N, …]."""
    return _digest(tuple(samples.shape), samples.split(ROWS))


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
        return self.stored_MCHW[indices_B if self.rows_N is None else self.rows_N[indices_B]]

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
