"""Which metric decides that one state or run is better than another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def best_values(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the best value of each metric by which states can be compared.

    Only values of one protocol are compared: of the first one that has the metric.

    Args:
        records: of metrics.jsonl, in order.
    """
    protocols: dict[str, Any] = {}
    best: dict[str, Ranked] = {}
    for record in records:
        protocol = record.get("protocol")
        for found in ranked(record):
            if protocols.setdefault(found.metric, protocol) == protocol:
                best[found.metric] = min(best.get(found.metric, found), found, key=lambda each: each.rank_value)
    return {metric: found.value for metric, found in best.items()}


def best_value(metric: str) -> str:
    """Return the best value of a metric in words, such as "the lowest"."""
    return result_key(metric).best


def metric_title(metric: str) -> str:
    """Return a metric with its best value as titles show it, such as "fid ↓"."""
    return f"{metric} {result_key(metric).arrow}".strip()
