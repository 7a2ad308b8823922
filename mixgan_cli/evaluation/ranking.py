"""By which metric the states of a run are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RANKED_BY = ("fid", "inception_score", "kid", "symmetric_kl", "high_quality", "knn_fake", "precision", "ms_ssim")
"""Metrics by which states of a run are compared: the first that was computed counts."""
HIGHER_IS_BETTER = ("inception_score", "high_quality", "precision")
IDEALS = {"knn_fake": "half of each sample's neighbours of its kind", "ms_ssim": "as of real images"}
"""What is best of a metric that should be neither high nor low."""


def deciding(metrics: Mapping[str, Any]) -> tuple[str, float, float] | None:
    """Return (metric, its value, its badness) of the metric that decides which state is best; or None without one.

    Badness is lower for better states: the value, its negative, or its distance from the ideal.
    """
    return next(iter(decisive(metrics)), None)


def decisive(metrics: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (metric, its value, its badness) of all metrics by which states compare, the deciding one first."""
    return [
        (name, metrics[name], _badness(kind, name, metrics))
        for kind in RANKED_BY
        for name in sorted(metrics, key=lambda name: (len(name), name))  # fid before fid_768 before fid_classifier
        if not name.endswith(("_std", "_real", "_sd", "_majority", "_by_expert"))
        and (name == kind or name.startswith(f"{kind}_"))
        and isinstance(metrics[name], (int, float))
    ]


def best_is(metric: str) -> str:
    """Say what is best of a metric by which states compare."""
    kind = next(kind for kind in RANKED_BY if metric == kind or metric.startswith(f"{kind}_"))
    return IDEALS.get(kind, "the highest" if kind in HIGHER_IS_BETTER else "the lowest")


def _badness(kind: str, name: str, metrics: Mapping[str, Any]) -> float:
    value = metrics[name]
    if kind == "knn_fake":  # half of a sample's neighbours should be fake, be it fake or real
        return abs(value - 0.5) + abs(metrics.get(name.replace("fake", "real"), 0.5) - 0.5)
    if kind == "ms_ssim":  # as diverse as real images
        return abs(value - metrics.get("ms_ssim_real", 0.0))
    return -value if kind in HIGHER_IS_BETTER else value
