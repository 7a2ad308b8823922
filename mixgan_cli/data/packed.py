"""A prepared set: one uint8 array, where it came from and what was done to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


def checksum(samples: Tensor) -> str:
    """Return shape and values as 16 hexadecimal digits of SHA-256: equal sets have equal checksums."""
    digest = hashlib.sha256(str(tuple(samples.shape)).encode())
    digest.update(samples.contiguous().numpy().data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Packed:
    """Images [N, C, H, W] uint8, labels [N] or None, and the preprocessing in words."""

    images_NCHW: Tensor
    labels_N: Tensor | None
    preprocessing: str

    def __len__(self) -> int:
        return len(self.images_NCHW)

    @cached_property
    def checksum(self) -> str:
        """Of shape and pixels."""
        return checksum(self.images_NCHW)

    def take(self, indices: Tensor) -> Packed:
        """Return the images at these indices, in this order."""
        labels = None if self.labels_N is None else self.labels_N[indices]
        return Packed(self.images_NCHW[indices], labels, self.preprocessing)

    def describe(self) -> dict[str, str | int]:
        """Say what a protocol says of the set."""
        return {"n": len(self), "checksum": self.checksum, "preprocessing": self.preprocessing}
