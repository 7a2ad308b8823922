"""A prepared set: one uint8 array, in memory or mapped from a file, where it came from and what was done to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

ROWS = 4096
"""Images read at a time where all pass by."""


def checksum(samples: Tensor) -> str:
    """Return shape and values of samples [N, …] as 16 hexadecimal digits of SHA-256; equal sets have equal ones."""
    return _digest(tuple(samples.shape), samples.split(ROWS))


@dataclass(frozen=True)
class Packed:
    """Images uint8 [N, C, H, W], labels int64 [N] or None, and the preprocessing in words.

    Where only some images of an array belong to the set, `rows_N` says which, and nothing is copied until it is asked
    for: the array may be larger than the memory.
    """

    stored_MCHW: Tensor
    stored_labels_M: Tensor | None
    preprocessing: str
    rows_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stored_MCHW if self.rows_N is None else self.rows_N)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (C, H, W)."""
        return tuple(self.stored_MCHW.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the set's images."""
        return len(self) * self.stored_MCHW[0].numel()

    @cached_property
    def images_NCHW(self) -> Tensor:
        """All images [N, C, H, W], in memory unless the whole array is the set."""
        return self.stored_MCHW if self.rows_N is None else self.stored_MCHW[self.rows_N]

    @cached_property
    def labels_N(self) -> Tensor | None:
        """All labels [N], or None."""
        labels = self.stored_labels_M
        return labels if labels is None or self.rows_N is None else labels[self.rows_N]

    @cached_property
    def checksum(self) -> str:
        """Of shape and pixels."""
        if self.rows_N is None:
            return checksum(self.stored_MCHW)
        return _digest((len(self), *self.shape), (self.stored_MCHW[rows] for rows in self.rows_N.split(ROWS)))

    def __getitem__(self, indices_B: Tensor) -> Tensor:
        """Return the images at these indices [B, C, H, W], in memory."""
        return self.stored_MCHW[indices_B if self.rows_N is None else self.rows_N[indices_B]]

    def in_memory(self) -> Packed:
        """Return the same set, read from its file."""
        return Packed(self.images_NCHW.clone(), self.labels_N, self.preprocessing)

    def subset(self, indices: Tensor) -> Packed:
        """Return the set of the images at these indices [n], in this order."""
        rows = indices if self.rows_N is None else self.rows_N[indices]
        return Packed(self.stored_MCHW, self.stored_labels_M, self.preprocessing, rows)

    def without_labels(self) -> Packed:
        """Return the same images alone."""
        return Packed(self.stored_MCHW, None, self.preprocessing, self.rows_N)

    def describe(self) -> dict[str, str | int]:
        """Say what a protocol says of the set."""
        return {"n": len(self), "checksum": self.checksum, "preprocessing": self.preprocessing}


def _digest(shape: tuple[int, ...], blocks) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for block in blocks:
        digest.update(block.contiguous().numpy().data)
    return digest.hexdigest()[:16]
