"""Augmentation of all images that the discriminator sees, real and generated, for small data sets.

An augmentation is a random, differentiable map of images [N, C, H, W] to images of the same shape; the generator learns
through it. It draws on the device from torch's global random state. This file has DiffAugment (Zhao et al. 2020).
A new augmentation is a class with `__call__`, and a YAML file in conf/objective/augment/. With `per_transformation =
True` it gets the factor of a schedule as a second argument; otherwise the factor is the share of images that it is
applied to. A `controller` changes its strength in training, see `AdaptiveStrength`.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mixgan_cli.runtime.random import integers, uniform

Share = Annotated[float, Field(ge=0, le=1)]


class DiffAugment:
    """Colour, translation and cutout, in this order, drawn for each image (Zhao et al. 2020, and the authors' code).

    Images are in [-1, 1]; afterwards they may exceed it. Pixels that are moved in or cut out are 0, a grey.

    Args:
        color: brightness, saturation and contrast.
        translation: the largest shift, as a share of the side; 0: none.
        cutout: side of the hole, as a share of the image's; 0: no hole.
    """

    images_only = True
    """True: points have no channels, rows and columns."""

    def __init__(self, color: bool, translation: Share, cutout: Share) -> None:
        self.color, self.translation, self.cutout = color, translation, cutout

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        """Return augmented images [N, C, H, W]."""
        if self.color:
            images_NCHW = contrast(saturation(brightness(images_NCHW)))
        if self.translation:
            images_NCHW = translation(images_NCHW, self.translation)
        if self.cutout:
            images_NCHW = cutout(images_NCHW, self.cutout)
        return images_NCHW


def brightness(images_NCHW: Tensor) -> Tensor:
    """Add a number from U(-0.5, 0.5) to each image [N, C, H, W]."""
    return images_NCHW + _uniform(images_NCHW, -0.5, 0.5)


def saturation(images_NCHW: Tensor) -> Tensor:
    """Scale each pixel's distance from its mean over channels by a number from U(0, 2) per image [N, C, H, W]."""
    grey_N1HW = images_NCHW.mean(dim=1, keepdim=True)
    return grey_N1HW + _uniform(images_NCHW, 0, 2) * (images_NCHW - grey_N1HW)


def contrast(images_NCHW: Tensor) -> Tensor:
    """Scale the distance from the mean over channels and pixels by a number from U(0.5, 1.5) per image [N, C, H, W]."""
    mean_N111 = images_NCHW.mean(dim=(1, 2, 3), keepdim=True)
    return mean_N111 + _uniform(images_NCHW, 0.5, 1.5) * (images_NCHW - mean_N111)


def translation(images_NCHW: Tensor, share: float) -> Tensor:
    """Shift images [N, C, H, W] by whole pixels along each axis, uniformly up to this share of the side.

    Zeros are moved in.
    """
    for axis in (2, 3):
        size = images_NCHW.shape[axis]
        most = _rounded(share * size)
        source = _pixels(images_NCHW, axis) - _integer(images_NCHW, -most, most)
        outside = (source < 0) | (source >= size)
        images_NCHW = images_NCHW.take_along_dim(source.clamp(0, size - 1), axis).masked_fill(outside, 0)
    return images_NCHW


def cutout(images_NCHW: Tensor, share: float) -> Tensor:
    """Set a rectangle in each image [N, C, H, W] to 0; its sides are this share of the image's sides.

    Its centre is uniform over the image, so up to half of a side may lie outside. The centre of an even side is a
    border between pixels, including the image's own two borders.
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
    """Round a non-negative number, halves up as in the authors' code; Python rounds 2.5 to 2."""
    return int(value + 0.5)


def _uniform(images_NCHW: Tensor, low: float, high: float) -> Tensor:
    """Draw one number per image from U(low, high), [N, 1, 1, 1]."""
    return low + (high - low) * uniform(len(images_NCHW), 1, 1, 1, device=images_NCHW.device)


def _integer(images_NCHW: Tensor, low: int, high: int) -> Tensor:
    """Draw one integer per image from low … high, both included, [N, 1, 1, 1]."""
    return integers(low, high + 1, len(images_NCHW), 1, 1, 1, device=images_NCHW.device)


def _pixels(images_NCHW: Tensor, axis: int) -> Tensor:
    """Return 0 … size - 1 along this axis; the other axes have length 1."""
    size = images_NCHW.shape[axis]
    return torch.arange(size, device=images_NCHW.device).view([size if a == axis else 1 for a in range(4)])
