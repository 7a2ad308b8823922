"""Points in the plane against real ones: modes that are covered, and distances between histograms.

MGGAN (ICLR 2018) reports both distances, but not how its histograms were taken; bins and smoothing are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey
from mixgan_cli.evaluation.metrics.stacked import divergence

BINS = 50
"""Bins per side of the square."""
EPS = 1e-5
"""Added to the share of each bin for the divergence, where an empty bin would make it infinite. It is a tenth of one of
10,000 points. With less, bins that only one set happens to meet would weigh more than missing modes."""
ITERATIONS = 10_000_000
"""Maximum iterations of the transport solver. Two full histograms take two seconds and far fewer."""


class Modes(Metric):
    """Modes of a mixture of Gaussians that are covered, and the share of points near one (Srivastava et al. 2017)."""

    name = "modes"
    results: ClassVar = {
        "modes_covered": ResultKey(
            "higher", "Modes with at least one sample within three standard deviations; higher is better.", rank=None
        ),
        "high_quality": ResultKey(
            "higher", "Share of samples within three standard deviations of a mode; higher is better.", rank=50
        ),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return both values. Raises Unavailable if the data are not a mixture of Gaussians."""
        if comparison.reference.gaussians is None:
            raise Unavailable("only for data that are a mixture of Gaussians")
        covered, share = modes(comparison.fake, *comparison.reference.gaussians)
        return {"modes_covered": covered, "high_quality": share}


class ReverseKL(Metric):
    """How unevenly the modes of a mixture of Gaussians are covered: KL(shares of the modes ‖ equal shares)."""

    name = "modes"
    results: ClassVar = {
        "reverse_kl": ResultKey(
            "lower",
            "Divergence of the modes' shares from equal ones, in nats, over samples within three standard deviations "
            "of a mode (PacGAN); lower is better.",
            rank=None,
        ),
        "reverse_kl_real": ResultKey(role="of_real"),
        "reverse_kl_all": ResultKey(
            "lower", "The same over all samples, by the nearest mode.", rank=None, role="variant"
        ),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the values. Raises Unavailable if the data are not such a mixture, or no sample is near a mode."""
        if comparison.reference.gaussians is None:
            raise Unavailable("only for data that are a mixture of Gaussians")
        gaussians, second_draw = comparison.reference.gaussians, comparison.reference.second_draw
        values = {
            "reverse_kl": reverse_kl(comparison.fake, *gaussians),
            "reverse_kl_all": reverse_kl(comparison.fake, *gaussians, only_high_quality=False),
        }
        if second_draw is not None:
            values["reverse_kl_real"] = reverse_kl(second_draw[: len(comparison.fake)], *gaussians)
        return values


class HistogramDistance(Metric):
    """Base class of distances between two histograms of points. A second draw of real points scores KEY_real."""

    name = "plane"
    distance: ClassVar[Callable[[Tensor, Tensor, float], float]]

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the distance. Raises Unavailable if the data set has no window for histograms."""
        reference, distance, key = comparison.reference, type(self).distance, next(iter(self.results))
        if reference.extent is None:
            raise Unavailable("only for points in the plane whose data set has a window for histograms")
        comparison.notes["histograms"] = {"window": reference.extent, "bins": BINS, "eps": EPS}
        values = {key: distance(comparison.fake, reference.samples, reference.extent)}
        if reference.second_draw is not None:
            values[f"{key}_real"] = distance(reference.second_draw, reference.samples, reference.extent)
        return values


def modes(points_N2: Tensor, means_M2: Tensor, std_M: Tensor) -> tuple[int, float]:
    """Return the number of modes covered, and the share of points of high quality.

    A point is of high quality within three standard deviations of a mean. It belongs to the mode from which it is the
    fewest standard deviations away. A mode with at least one such point is covered (Srivastava et al. 2017, section 5).
    Real points score 1 - exp(-4.5) = 98.9 %, a little more where modes overlap.
    """
    mode_N, good_N = _nearest_modes(points_N2, means_M2, std_M)
    return len(mode_N[good_N].unique()), good_N.double().mean().item()


def reverse_kl(points_N2: Tensor, means_M2: Tensor, std_M: Tensor, only_high_quality: bool = True) -> float:
    """Return KL(p ‖ u) in nats, p the shares of the modes among the points, u equal shares; from 0 to log M.

    Lin et al. (PacGAN, NeurIPS 2018) leave out points that are not of high quality.

    Raises:
        Unavailable: no point is of high quality.
    """
    mode_N, good_N = _nearest_modes(points_N2, means_M2, std_M)
    if only_high_quality:
        mode_N = mode_N[good_N]
        if not len(mode_N):
            raise Unavailable("no sample is within three standard deviations of a mode")
    counts_M = torch.bincount(mode_N, minlength=len(means_M2))
    return divergence(counts_M, torch.full_like(std_M, 1 / len(means_M2), dtype=torch.float64))


def _nearest_modes(points_N2: Tensor, means_M2: Tensor, std_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest mode of each point [N], in standard deviations, and whether it is within three of them [N]."""
    deviations = torch.cdist(points_N2.double(), means_M2.double()) / std_M.double()
    nearest_N = deviations.min(dim=1)
    return nearest_N.indices, nearest_N.values <= 3


def symmetric_kl(fake_N2: Tensor, real_M2: Tensor, extent: float) -> float:
    """Return KL(p‖q) + KL(q‖p) in nats, p and q the histograms with EPS added to every bin."""
    fake_BB, real_BB = ((histogram(points, extent) + EPS) / (1 + BINS**2 * EPS) for points in (fake_N2, real_M2))
    return ((fake_BB - real_BB) * (fake_BB / real_BB).log()).sum().item()


def wasserstein(fake_N2: Tensor, real_M2: Tensor, extent: float) -> float:
    """Return the exact earth mover's distance between the histograms, in the unit of the points.

    The mass of a bin is placed at its centre, so distances below the width of a bin are not resolved.

    Raises:
        Unavailable: the solver did not reach the optimum.
    """
    import ot  # takes a second to import

    fake_B, real_B = (histogram(points, extent).flatten() for points in (fake_N2, real_M2))
    axis_B = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (2 * extent / BINS)
    centres_B2 = torch.cartesian_prod(axis_B, axis_B)
    # not by matrix products, whose rounding would put a bin at a distance from itself
    costs = torch.cdist(centres_B2[fake_B > 0], centres_B2[real_B > 0], compute_mode="donot_use_mm_for_euclid_dist")
    masses = (mass_B[mass_B > 0].numpy() for mass_B in (fake_B, real_B))
    distance, solved = ot.emd2(*masses, costs.numpy(), numItermax=ITERATIONS, log=True)
    if solved["warning"] is not None:
        raise Unavailable(f"the optimal transport was not found ({solved['warning']})")
    return float(distance)


def histogram(points_N2: Tensor, extent: float) -> Tensor:
    """Return the share of points in each bin [BINS, BINS], float64; a point outside counts in the nearest bin.

    Raises:
        ValueError: a coordinate is NaN, so the point has no bin.
    """
    if points_N2.isnan().any():
        raise ValueError("some points are not numbers")
    bins_N2 = ((points_N2.double() + extent) * (BINS / (2 * extent))).clamp(0, BINS - 1).long()
    counts = torch.bincount(bins_N2[:, 0] * BINS + bins_N2[:, 1], minlength=BINS**2)
    return counts.view(BINS, BINS).double() / len(points_N2)


class SymmetricKL(HistogramDistance):
    """Symmetric Kullback-Leibler divergence."""

    distance = symmetric_kl
    results: ClassVar = {
        "symmetric_kl": ResultKey(
            "lower", "Symmetric Kullback-Leibler divergence of histograms; lower is better.", rank=40
        ),
        "symmetric_kl_real": ResultKey(role="of_real"),
    }


class Wasserstein(HistogramDistance):
    """Earth mover's distance."""

    distance = wasserstein
    results: ClassVar = {
        "wasserstein": ResultKey("lower", "Exact Wasserstein distance of histograms; lower is better.", rank=None),
        "wasserstein_real": ResultKey(role="of_real"),
    }
