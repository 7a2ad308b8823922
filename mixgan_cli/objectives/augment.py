"""Augmentation of everything the discriminator sees, real and generated alike, for data sets of few images.

An augmentation maps images [N, C, H, W] to images of that shape, at random and differentiably: the generator learns
through it. It draws on the device from torch's current random state. Those here are DiffAugment's (Zhao et al. 2020).
A new one is a class with this call, and a YAML in conf/objective/augment/.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mixgan_cli.runtime.random import integers, uniform

Share = Annotated[float, Field(ge=0, le=1)]


class DiffAugment:
    """Colour, translation and cutout, in this order, for each image its own (Zhao et al. 2020, and the authors' code).

    Images are in [-1, 1]; afterwards they may exceed it, and what is moved in or cut out is 0, a grey.

    Args:
        color: brightness, saturation and contrast.
        translation: by how much at most, as a share of the side; 0: not at all.
        cutout: side of the hole, as a share of the image's; 0: no hole.
    """

    images_only = True
    """It knows channels, rows and columns: points have none."""

    def __init__(self, color: bool, translation: Share, cutout: Share) -> None:
        self.color, self.translation, self.cutout = color, translation, cutout

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """Return the images augmented, [N, C, H, W]."""
        if self.color:
            images_NCHW = contrast(saturation(brightness(images_NCHW)))
        if self.translation:
            images_NCHW = translation(images_NCHW, self.translation)
        if self.cutout:
            images_NCHW = cutout(images_NCHW, self.cutout)
        return images_NCHW


def brightness(images_NCHW: Tensor) -> Tensor:
    """Add to each image a number from U(-0.5, 0.5): [N, C, H, W]."""
    return images_NCHW + _uniform(images_NCHW, -0.5, 0.5)


def saturation(images_NCHW: Tensor) -> Tensor:
    """Scale a pixel's distance from its grey, its channels' mean, by a number from U(0, 2) an image: [N, C, H, W]."""
    grey_N1HW = images_NCHW.mean(dim=1, keepdim=True)
    return grey_N1HW + _uniform(images_NCHW, 0, 2) * (images_NCHW - grey_N1HW)


def contrast(images_NCHW: Tensor) -> Tensor:
    """Scale an image's distance from its mean, over channels and pixels, by a number from U(0.5, 1.5): [N, C, H, W]."""
    mean_N111 = images_NCHW.mean(dim=(1, 2, 3), keepdim=True)
    return mean_N111 + _uniform(images_NCHW, 0.5, 1.5) * (images_NCHW - mean_N111)


def translation(images_NCHW: Tensor, share: float) -> Tensor:
    """Move images [N, C, H, W] by whole pixels along either axis, uniformly up to this share of the side.

    Zeros move in.
    """
    for axis in (2, 3):
        size = images_NCHW.shape[axis]
        most = _rounded(share * size)
        source = _pixels(images_NCHW, axis) - _integer(images_NCHW, -most, most)
        outside = (source < 0) | (source >= size)
        images_NCHW = images_NCHW.take_along_dim(source.clamp(0, size - 1), axis).masked_fill(outside, 0)
    return images_NCHW


def cutout(images_NCHW: Tensor, share: float) -> Tensor:
    """Set to 0 a rectangle in each of images [N, C, H, W], its sides this share of the image's.

    Its centre is uniform over the image, so that up to half of either side may lie outside. Of an even side the centre
    is a border between pixels, the image's own two included.
    """
    inside = []
    for axis in (2, 3):
        size = images_NCHW.shape[axis]
        side = _rounded(share * size)
        first = _integer(images_NCHW, 0, size - side % 2) - side // 2
        pixel = _pixels(images_NCHW, axis)
        inside.append((first <= pixel) & (pixel < first + side))
    row, column = inside
    return images_NCHW.masked_fill(row & column, 0)


def _rounded(value: float) -> int:
    """Round a number that is not negative, halves up as the authors' code; Python rounds 2.5 to 2."""
    return int(value + 0.5)


def _uniform(images_NCHW: Tensor, low: float, high: float) -> Tensor:
    """Draw from U(low, high), a number an image [N, 1, 1, 1]."""
    return low + (high - low) * uniform(len(images_NCHW), 1, 1, 1, device=images_NCHW.device)


def _integer(images_NCHW: Tensor, least: int, most: int) -> Tensor:
    """Draw from least … most, both included, an integer an image [N, 1, 1, 1]."""
    return integers(least, most + 1, len(images_NCHW), 1, 1, 1, device=images_NCHW.device)


def _pixels(images_NCHW: Tensor, axis: int) -> Tensor:
    """Return 0 … size - 1 along this axis, the others of length 1."""
    size = images_NCHW.shape[axis]
    return torch.arange(size, device=images_NCHW.device).view([size if a == axis else 1 for a in range(4)])
