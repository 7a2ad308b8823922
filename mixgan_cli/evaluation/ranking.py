"""Which metric decides that one state or run is better than another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mixgan_cli.evaluation.metrics.registry import find, result_key


class Ranked(NamedTuple):
    """A metric by which states can be compared. `rank_value` is lower for better states."""

    metric: str
    value: float
    rank_value: float


def deciding(metrics: Mapping[str, Any]) -> Ranked | None:
    """Return the metric that decides which state is best, or None if there is no such metric."""
    return next(iter(ranked(metrics)), None)


def ranked(metrics: Mapping[str, Any]) -> list[Ranked]:
    """Return all metrics by which states can be compared, the deciding one first."""
    order = []
    for key, value in metrics.items():
        found = find(key)
        if found and found.result.decides and isinstance(value, int | float):
            rank_value = found.metric.rank_value(found.key, found.suffix, metrics)
            # fid before fid_768 before fid_classifier
            order.append(((found.result.rank, found.key, len(key), key), Ranked(key, value, rank_value)))
    return [each for _, each in sorted(order)]


def best_value(metric: str) -> str:
    """Return the best value of a metric in words, such as "the lowest"."""
    return result_key(metric).best
