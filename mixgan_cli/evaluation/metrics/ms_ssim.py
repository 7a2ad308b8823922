"""Multi-scale structural similarity between pairs of generated images, a measure of diversity.

MS-SSIM (Wang, Simoncelli & Bovik 2003) is defined with an 11-pixel window over five scales, which needs images of more
than 160 pixels. As in GAN papers, the window shrinks to min(11, H, W) at each scale, and its sigma with it. At 256
pixels this is the standard measure, and at 32 pixels it is what the literature reports.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey
from mixgan_cli.evaluation.metrics.mixture import samples_by_expert

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
PAIRED = 64
"""Images of a block within which all pairs are taken (pairing "all")."""
PANEL = "MS-SSIM"


class MSSSIM(Metric):
    """Mean MS-SSIM of pairs of generated images, and of pairs of real ones."""

    name = "ms_ssim"
    requires = ("images",)
    panel = PANEL
    results: ClassVar = {
        "ms_ssim": ResultKey(
            "like_real",
            "Mean similarity of pairs of generated images; ms_ssim_real is that of real ones. A higher value than "
            "theirs means less diversity.",
            rank=80,
        ),
        "ms_ssim_real": ResultKey(role="of_real"),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return both means."""
        pairing, device = comparison.settings.ms_ssim_pairing, comparison.device
        value, pairs = mean_ms_ssim(comparison.fake, pairing, device)
        value_of_real, _ = mean_ms_ssim(comparison.real, pairing, device)
        comparison.notes["ms_ssim_pairs"] = pairs
        return {"ms_ssim": value, "ms_ssim_real": value_of_real}


class MSSSIMByExpert(Metric):
    """Mean MS-SSIM of pairs of images of the same expert."""

    name = "experts"
    requires = ("images", "gate_weights")
    panel = PANEL
    results: ClassVar = {
        "ms_ssim_by_expert": ResultKey(
            "like_real", "Mean similarity of pairs of images of the same expert.", rank=None
        ),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return a list [K] of means. Raises Unavailable if an expert has fewer than two samples."""
        parts = [comparison.fake[rows] for rows in samples_by_expert(comparison)]
        pairing, device = comparison.settings.ms_ssim_pairing, comparison.device
        return {"ms_ssim_by_expert": [mean_ms_ssim(part, pairing, device)[0] for part in parts]}


def ms_ssim(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    """Return the MS-SSIM [N] of each pair of images with values in 0…255.

    The luminance at the coarsest scale and the contrast-structure at every scale are multiplied with the exponents of
    the paper. Negative terms are clipped to 0. At each scale the terms of the channels are averaged first, as in the
    code of Karras et al. 2018 and Fedus et al. 2018.
    """
    first, second = first_NCHW.float(), second_NCHW.float()
    result = first.new_ones(len(first))
    for scale, exponent in enumerate(WEIGHTS):
        if scale:
            first, second = _halved(first), _halved(second)
        ssim_N, contrast_N = _ssim(first, second)
        term_N = ssim_N if scale == len(WEIGHTS) - 1 else contrast_N
        result = result * term_N.relu() ** exponent
    return result


def mean_ms_ssim(
    images_NCHW: Tensor, pairing: Literal["disjoint", "all"], device: torch.device | str = "cpu"
) -> tuple[float, int]:
    """Return the mean MS-SSIM over pairs of different images, and the number of pairs.

    Args:
        images_NCHW: 0…255, in random order.
        pairing: "disjoint": images 2i and 2i + 1, N // 2 pairs (Karras et al. 2018). "all": every pair within each
            block of 64 images, N // 64 blocks; within one block if there are fewer images (Fedus et al. 2018).
        device: where to compute.
    """
    first_P, second_P = _pairs(len(images_NCHW), pairing)
    total = 0.0
    for first_B, second_B in zip(first_P.split(256), second_P.split(256), strict=True):
        total += ms_ssim(images_NCHW[first_B].to(device), images_NCHW[second_B].to(device)).double().sum().item()
    return total / len(first_P), len(first_P)


def _pairs(n: int, pairing: str) -> tuple[Tensor, Tensor]:
    if n < 2:
        raise ValueError(f"a pair takes two images, but there is {n}")
    if pairing == "disjoint":
        indices = torch.arange(n // 2 * 2)
        return indices[0::2], indices[1::2]
    block = min(PAIRED, n)
    within = torch.combinations(torch.arange(block))
    every = torch.cat([within + start for start in range(0, n - block + 1, block)])
    return every[:, 0], every[:, 1]


def _halved(images: Tensor) -> Tensor:
    """Return 2×2 means. The last row or column of an odd side is repeated, as those papers' code does."""
    height, width = images.shape[-2:]
    return F.avg_pool2d(F.pad(images, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def _ssim(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM and its contrast-structure term, [N] each: means over channels and positions of the window."""
    stacked = torch.stack((first, second, first * first, second * second, first * second))
    mean_1, mean_2, square_1, square_2, product = _blurred(stacked)
    variance_1, variance_2 = square_1 - mean_1**2, square_2 - mean_2**2
    covariance = product - mean_1 * mean_2
    contrast = (2 * covariance + C2) / (variance_1 + variance_2 + C2)
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1**2 + mean_2**2 + C1)
    return (luminance * contrast).mean(dim=(-3, -2, -1)), contrast.mean(dim=(-3, -2, -1))


def _blurred(stacked: Tensor) -> Tensor:
    """Blur with a Gaussian window along rows and columns, at the positions where it fits completely."""
    height, width = stacked.shape[-2:]
    images = stacked.reshape(-1, 1, height, width)
    size = min(WINDOW, height, width)
    position = torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2
    window = torch.exp(-(position**2) / (2 * (SIGMA * size / WINDOW) ** 2))
    window = window / window.sum()
    blurred = F.conv2d(F.conv2d(images, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    return blurred.reshape(*stacked.shape[:-2], *blurred.shape[-2:])
