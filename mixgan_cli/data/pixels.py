"""The one place where pixels change between bytes and numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Map images of any shape from uint8 0…255 to float32 in [-1, 1]: x / 127.5 - 1."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Map images of any shape from [-1, 1] to the nearest of uint8 0…255, clipped: the inverse of `to_float`."""
    return images.float().mul(127.5).add_(128).clamp_(0, 255).to(torch.uint8)
