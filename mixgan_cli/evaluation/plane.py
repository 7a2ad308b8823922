"""Points in the plane against real ones, by histograms of a square about the origin.

MGGAN (ICLR 2018) reports both figures; how its histograms were taken is not known, so bins and smoothing are our own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mixgan_cli.errors import Unavailable

BINS = 50
"""A side."""
EPS = 1e-5
"""Added to each bin's share for the divergence, where an empty bin would make it infinite: a tenth of one of 10,000
points. With less, bins that one set meets by chance and the other does not would weigh more than missing modes."""
ITERATIONS = 10_000_000
"""At most, of the transport's solver; two full histograms take it two seconds and far fewer."""


def symmetric_kl(fake_N2: Tensor, real_M2: Tensor, window: float) -> float:
    """Return KL(p‖q) + KL(q‖p) in nats, p and q the histograms with EPS added to every bin."""
    fake_BB, real_BB = ((histogram(points, window) + EPS) / (1 + BINS**2 * EPS) for points in (fake_N2, real_M2))
    return ((fake_BB - real_BB) * (fake_BB / real_BB).log()).sum().item()


def wasserstein(fake_N2: Tensor, real_M2: Tensor, window: float) -> float:
    """Return the exact earth mover's distance between the histograms, in the points' own unit.

    A bin's mass sits in its centre, so less than a bin's width is not seen.

    Raises:
        Unavailable: the solver did not reach the optimum.
    """
    import ot  # here, for it takes a second to import

    fake_B, real_B = (histogram(points, window).flatten() for points in (fake_N2, real_M2))
    axis_B = (torch.arange(BINS, dtype=torch.float64) + 0.5) * (2 * window / BINS)
    centres_B2 = torch.cartesian_prod(axis_B, axis_B)
    # not by matrix products, whose rounding would put a bin at a distance from itself
    costs = torch.cdist(centres_B2[fake_B > 0], centres_B2[real_B > 0], compute_mode="donot_use_mm_for_euclid_dist")
    masses = (mass_B[mass_B > 0].numpy() for mass_B in (fake_B, real_B))
    distance, solved = ot.emd2(*masses, costs.numpy(), numItermax=ITERATIONS, log=True)
    if solved["warning"] is not None:
        raise Unavailable(f"the optimal transport was not found ({solved['warning']})", "wasserstein")
    return float(distance)


def histogram(points_N2: Tensor, window: float) -> Tensor:
    """Return the share of points in each bin [BINS, BINS], float64; a point outside is in the nearest bin.

    Raises:
        ValueError: a point is not a number, so there is no bin for it.
    """
    if points_N2.isnan().any():
        raise ValueError("some points are not numbers")
    bins_N2 = ((points_N2.double() + window) * (BINS / (2 * window))).clamp(0, BINS - 1).long()
    counts = torch.bincount(bins_N2[:, 0] * BINS + bins_N2[:, 1], minlength=BINS**2)
    return counts.view(BINS, BINS).double() / len(points_N2)
