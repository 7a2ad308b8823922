"""Resizing of whole arrays of images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2.functional import resize

Side = Annotated[int, Field(gt=0, le=1024)]
"""Of a square image, in pixels."""


def resized(images_NCHW: Tensor, size: int) -> Tensor:
    """Return images [N, C, size, size], in pixels, bilinear with antialiasing where they have another size."""
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    return resize(images_NCHW, [size, size], antialias=True)


def told(before: int, size: int) -> str:
    """Say what `resized` does to images of so many pixels a side."""
    return f"{size} px" if size == before else f"{before} px, bilinear to {size} px"
