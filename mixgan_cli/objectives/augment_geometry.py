"""Exact moves of pixels, and resampling without aliasing (Karras et al. 2020, released code).

Positions are (row, column) in pixels, relative to the centre of the image. Outside, an image continues as its
reflection about the centres of its border pixels. All functions are differentiable any number of times, and consist of
matrix products and gathers, which are deterministic on a GPU where that is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
"""The low-pass filter of the orthonormal wavelet symlet 6 (Daubechies 1992), whose sum is √2."""
BEFORE = 5
"""Number of taps before the pixel to which the filter belongs."""
DELAY = sum(tap * weight for tap, weight in enumerate(SYM6)) / sum(SYM6) - BEFORE
"""Position of a pixel on the fine grid after the filter, 0.0983. The released code takes 1/2, as of a symmetric filter,
so that its turns also shift an image, by at most 0.4 pixels."""


class Resampling(NamedTuple):
    """Linear maps between the S pixels of a side and twice as many (Karras et al. 2020, released code)."""

    up: Tensor
    """[4 (S - 1), S]: a period of the reflected side, with twice the resolution."""
    down: Tensor
    """[S, 2 S + 10]: back to the pixels, from all the values that the filter reads."""


def resampling(side: int, device: torch.device) -> Resampling:
    """Return the maps for images of `side` pixels, [4 (S - 1), S] and [S, 2 S + 10], which filter with SYM6.

    One after the other, without a transformation between them, they are the identity.
    """
    period, taps = 4 * (side - 1), len(SYM6)
    up, down = torch.zeros(period, side), torch.zeros(side, 2 * side + taps - 2)
    for pixel in range(2 * (side - 1)):  # a period of the reflected side
        for tap, weight in enumerate(SYM6):
            up[(2 * pixel + tap - BEFORE) % period, min(pixel, 2 * (side - 1) - pixel)] += 2**0.5 * weight
    for pixel in range(side):
        down[pixel, 2 * pixel : 2 * pixel + taps] = torch.tensor(SYM6) / 2**0.5
    return Resampling(up.to(device), down.to(device))


def move(images_NCSS: Tensor, turned_N22: Tensor, shift_N2: Tensor) -> Tensor:
    """Mirror and turn images [N, C, S, S], then shift them by whole pixels; no pixel changes its value.

    Args:
        images_NCSS: square images.
        turned_N22: the inverse of the mirroring and turn, a signed permutation of (row, column).
        shift_N2: whole numbers.
    """
    side = images_NCSS.shape[-1]
    centre, pixels = (side - 1) / 2, torch.arange(side, device=images_NCSS.device, dtype=shift_N2.dtype)
    shifted_N2S = pixels - centre - shift_N2.unsqueeze(2)
    first, second = (turned_N22.unsqueeze(3) * shifted_N2S.unsqueeze(1)).unbind(2)  # parts along rows and columns
    source_N2SS = first.unsqueeze(3) + second.unsqueeze(2) + centre
    source_N2SS = side - 1 - (source_N2SS.abs() - (side - 1)).abs()  # within a side beyond the border
    rows, columns = source_N2SS.long().unbind(1)
    return _gather(images_NCSS, rows * side + columns)


def warp(images_NCSS: Tensor, inverse_N22: Tensor, offset_N2: Tensor, maps: Resampling) -> Tensor:
    """Return images [N, C, S, S] whose values at a position p are those of the old ones at inverse · p + offset.

    Twice the resolution, bilinear interpolation there, and back to the pixels.
    """
    side, period = images_NCSS.shape[-1], len(maps.up)
    up, down = (matrix.to(images_NCSS.dtype) for matrix in maps)
    fine_NCPP = up @ images_NCSS @ up.t()
    # A value at n of the fine grid is at (n - DELAY) / 2 of the pixels.
    fine = torch.arange(-BEFORE, down.shape[1] - BEFORE, device=images_NCSS.device, dtype=inverse_N22.dtype)
    at_R = (fine - DELAY) / 2 - (side - 1) / 2
    along_N22R = 2 * inverse_N22.unsqueeze(3) * at_R
    start_N2 = 2 * offset_N2 + (side - 1) + DELAY
    source_N2RR = along_N22R[:, :, 0].unsqueeze(3) + along_N22R[:, :, 1].unsqueeze(2) + start_N2[:, :, None, None]
    corner_N2RR = source_N2RR.floor()
    part_N2RR = (source_N2RR - corner_N2RR).to(images_NCSS.dtype)
    near_N2RR = corner_N2RR.remainder(period)
    far_N2RR = (near_N2RR + 1).remainder(period)
    rows, columns = (torch.stack(ends, dim=1) for ends in zip(near_N2RR.unbind(1), far_N2RR.unbind(1), strict=True))
    index_N22RR = (rows.unsqueeze(2) * period + columns.unsqueeze(1)).long()
    down_N2RR, right_N2RR = (torch.stack((1 - part, part), dim=1) for part in part_N2RR.unbind(1))
    weight_N122RR = (down_N2RR.unsqueeze(2) * right_N2RR.unsqueeze(1)).unsqueeze(1)
    return down @ (weight_N122RR * _gather(fine_NCPP, index_N22RR)).sum(dim=(2, 3)) @ down.t()


def _gather(images_NCPP: Tensor, index: Tensor) -> Tensor:
    """Return the values [N, C, …] of images at indices [N, …] into their flattened pixels."""
    index_N1Q = index.flatten(1).unsqueeze(1).expand(-1, images_NCPP.shape[1], -1)
    return images_NCPP.flatten(2).gather(2, index_N1Q).unflatten(2, index.shape[1:])
