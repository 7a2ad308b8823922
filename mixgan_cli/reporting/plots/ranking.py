"""Plots of configurations in the order of their means, with the value of each seed."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mixgan_cli.evaluation.metrics.registry import result_key
from mixgan_cli.evaluation.ranking import metric_title
from mixgan_cli.reporting.plots.sweep import escape_dollar
from mixgan_cli.reporting.statistics import mean_estimate, mean_ranks
from mixgan_cli.reporting.statistics_tables import Configuration
from mixgan_cli.reporting.tables import MISSING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_METRICS, MAX_SHOWN, MAX_NAME = 3, 30, 80
"""Most metrics that are drawn, most configurations in a plot, and most characters in the name of one."""
CAPTION = (
    "Configurations in the order of their means, the best first. A dot is a seed; the mean has its 95 % interval "
    "(Student's t) if there are several seeds; one that ends at the edge is wider than the plot. The mean rank is over "
    "the seeds that all configurations have."
)


def ranking_plots(configurations: Sequence[Configuration], metrics: Sequence[str]) -> Iterator[tuple[str, Figure]]:
    """Draw the configurations by each metric that has a best value, as (metric, figure).

    A metric needs two configurations that have it, one of them with several seeds.
    """
    directed = [metric for metric in metrics if result_key(metric).better is not None]
    for metric in directed[:MAX_METRICS]:
        measured = [each for each in configurations if each.values(metric)]
        if len(measured) > 1 and max(len(each.values(metric)) for each in measured) > 1:
            yield metric, draw_ranking(metric, measured)


def draw_ranking(metric: str, configurations: Sequence[Configuration]) -> Figure:
    """Draw a line for each configuration: the value of each seed, the mean and its interval, and the mean rank.

    Args:
        metric: name of a metric that has a best value.
        configurations: those that have it.
    """
    from matplotlib.figure import Figure

    by_mean = sorted(configurations, key=lambda each: each.rank_values(metric).mean())
    ranks = _mean_ranks(metric, by_mean)
    shown = by_mean[:MAX_SHOWN]
    names = [_name(each) for each in shown]
    keys = ", ".join(re.split("[./]", key)[-1] for key in shown[0].keys)
    width = 4 + 0.07 * max(map(len, [keys, *names]))
    figure = Figure(figsize=(width, 1.1 + 0.27 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for y, each in enumerate(shown):
        values_S = np.array(list(each.values(metric).values()))
        estimate = mean_estimate(values_S)
        axes.plot(values_S, np.full(len(values_S), y), "o", markersize=3.5, color="0.55", linewidth=0, zorder=3)
        axes.errorbar(
            [values_S.mean()], [y], xerr=[estimate.half or 0], fmt="D", markersize=4, capsize=3, linewidth=1, color="C0"
        )
    labels = [f"{name} (n={len(each.values(metric))})" for name, each in zip(names, shown, strict=True)]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.text(-0.02, 1.01, escape_dollar(keys), transform=axes.transAxes, ha="right", va="bottom", fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    _limit_to_values(axes, np.concatenate([list(each.values(metric).values()) for each in shown]))
    axes.set_xlabel(metric)
    cut = f" ({len(shown)} of {len(by_mean)} configurations)" if len(shown) < len(by_mean) else ""
    axes.set_title(metric_title(metric) + cut, fontsize=9)
    if ranks is not None:
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        right.set_yticks(range(len(shown)), [f"{rank:.1f}" for rank in ranks[: len(shown)]], fontsize=8)
        right.set_ylabel("mean rank", fontsize=8)
    return figure


def _limit_to_values(axes: Axes, values_N: np.ndarray) -> None:
    """Show at most half the range of the values on each side of them: an interval of two seeds can be much wider."""
    low, high = axes.get_xlim()
    margin = (values_N.max() - values_N.min()) / 2
    if margin > 0:
        axes.set_xlim(max(low, values_N.min() - margin), min(high, values_N.max() + margin))


def _mean_ranks(metric: str, configurations: Sequence[Configuration]) -> np.ndarray | None:
    """Return the mean rank of each configuration over the seeds that all have; None if there is no such seed."""
    by_seed = [dict(zip(each.values(metric), each.rank_values(metric), strict=True)) for each in configurations]
    common = [seed for seed in by_seed[0] if all(seed in values for values in by_seed)]
    return mean_ranks(np.array([[values[seed] for seed in common] for values in by_seed])) if common else None


def _name(configuration: Configuration) -> str:
    """Return the values in which a configuration differs from the others."""
    values = ", ".join(MISSING if value is None else f"{value}" for value in configuration.keys.values())
    return escape_dollar(textwrap.shorten(values, MAX_NAME, placeholder=" …"))
