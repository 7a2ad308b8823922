"""Plots of a sweep: each metric over K and beta, as a heat map or as lines with error bars over seeds, and samples."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from mixgan_cli.evaluation.metrics.registry import rank_value, result_key
from mixgan_cli.evaluation.ranking import metric_title
from mixgan_cli.reporting.sweep_table import Row, SweepTable
from mixgan_cli.reporting.tables import mean_and_sd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAT_MAP_KEYS = ("model.beta", "model.k")
"""Keys that span a heat map: rows, columns."""
PANELS_PER_ROW = 3
MIN_MEASURED = 0.25
"""Smallest share of the cells of heat maps that is measured, so that n trials have at most 4 n cells."""
MAX_LABELS = 10
"""Most lines with a legend, and most values that are marked on an axis."""


def sweep_plots(table: SweepTable) -> Iterator[tuple[str, Figure]]:
    """Draw each metric over the swept keys, as (metric, figure); nothing if no numeric key is swept.

    A sweep over model.beta and model.k gives heat maps, of those groups in which at least two by two cells are filled;
    if there is none, if most cells would be empty, as in a search at random values, and for a sweep over one number, a
    metric has lines. A group is a combination of the other keys that vary, and of the protocol.
    """
    rows = [row for row in table.by_configuration() if row["done"]]
    swept = [key for key in table.keys if key != "seed" and len(_values(rows, key)) > 1]
    numbers = [key for key in swept if all(_number(row[key]) is not None for row in rows)]
    spanning = [key for key in HEAT_MAP_KEYS if key in numbers]
    others = [*swept, *(["protocol"] if len(table.protocols) > 1 else [])]
    for metric in table.main_metrics:
        measured = [row for row in rows if row[metric] is not None]
        if len({row[metric] for row in measured}) < 2:  # a constant has nothing to show
            continue
        maps = {name: of for name, of in _grouped(measured, others, spanning).items() if _fills_a_map(of, spanning)}
        if len({row[metric] for of in maps.values() for row in of}) > 1 and _mostly_measured(maps, spanning):
            yield metric, draw_heat_maps(metric, maps, spanning)
            continue
        for key in dict.fromkeys([*reversed(spanning), *numbers]):
            lines = _grouped(measured, others, [key])
            if any(len(_values(of, key)) > 1 for of in lines.values()):
                yield metric, draw_lines(metric, lines, [key])
                break


def _grouped(rows: Sequence[Row], keys: Sequence[str], axes_keys: Sequence[str]) -> dict[str, list[Row]]:
    """Return rows by what they share of `keys`, except for the keys of the axes."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        name = ", ".join(_describe(key, row[key]) for key in keys if key not in axes_keys)
        groups.setdefault(name, []).append(row)
    return groups


def _fills_a_map(rows: Sequence[Row], axes_keys: Sequence[str]) -> bool:
    """Return whether two values of one key are measured at the same two values of the other key."""
    if len(axes_keys) < 2:
        return False
    down, across = axes_keys
    filled = [_values([row for row in rows if _number(row[down]) == y], across) for y in _values(rows, down)]
    return any(len(one & other) > 1 for one, other in combinations(filled, 2))


def _mostly_measured(maps: Mapping[str, Sequence[Row]], axes_keys: Sequence[str]) -> bool:
    """Return whether enough cells of these heat maps, which share their axes, are measured to draw them."""
    rows = [row for of in maps.values() for row in of]
    cells = len(maps) * math.prod(len(_values(rows, key)) for key in axes_keys)
    return len(rows) >= MIN_MEASURED * cells


def draw_heat_maps(metric: str, groups: dict[str, list[Row]], axes_keys: Sequence[str]) -> Figure:
    """Draw a heat map for each group, with mean ± standard deviation over seeds in each cell.

    Brighter is better. If the best value of a metric is neither the highest nor the lowest, the colour shows the
    distance from it. Heat maps of one protocol share a colour scale; those of different protocols are not comparable.

    Args:
        metric: name of the metric.
        groups: rows by the name of their group.
        axes_keys: keys of the vertical and of the horizontal axis.
    """
    from matplotlib.figure import Figure

    all_rows = [row for rows in groups.values() for row in rows]
    down, across = (sorted(_values(all_rows, key)) for key in axes_keys)
    columns = min(len(groups), PANELS_PER_ROW)
    lines = -(-len(groups) // columns)
    size = (columns * max(3.4, 0.9 * len(across)), lines * (1.4 + 0.5 * len(down)))
    figure = Figure(figsize=size, layout="constrained")
    better = result_key(metric).better
    by_distance = better not in ("lower", "higher", None)
    lower_is_brighter = by_distance or better == "lower"
    for number, (name, rows) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(lines, columns, number)
        comparable = [row for row in all_rows if row["protocol"] == rows[0]["protocol"]]
        colours = [_colour_value(metric, row, by_distance) for row in comparable]
        lowest, highest = min(colours), max(colours)
        values_YX = np.full((len(down), len(across)), np.nan)
        for row in rows:
            y, x = (values.index(_number(row[key])) for key, values in zip(axes_keys, (down, across), strict=True))
            values_YX[y, x] = value = _colour_value(metric, row, by_distance)
            dark = (value < (lowest + highest) / 2) != lower_is_brighter
            label = mean_and_sd(row[metric], row[f"{metric}_sd"]).replace(" ± ", "\n± ")
            axes.text(x, y, label, ha="center", va="center", fontsize=8, color="#ffffff" if dark else "#000000")
        colour_map = "viridis_r" if lower_is_brighter else "viridis"
        shown = axes.imshow(values_YX, cmap=colour_map, vmin=lowest, vmax=highest, aspect="auto")
        label = f"{metric}:\ndistance from the best value" if by_distance else metric
        figure.colorbar(shown, ax=axes, label=label)
        axes.set_xticks(range(len(across)), [f"{value:g}" for value in across])
        axes.set_yticks(range(len(down)), [f"{value:g}" for value in down])
        axes.set(xlabel=_axis_label(axes_keys[1]), ylabel=_axis_label(axes_keys[0]))
        axes.set_title(textwrap.fill(escape_dollar(name), 30), fontsize=8)
    figure.suptitle(metric_title(metric), fontsize=9)
    return figure


def draw_lines(metric: str, groups: dict[str, list[Row]], axes_keys: Sequence[str]) -> Figure:
    """Draw a line for each group over one key, with the standard deviation over seeds as error bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    (key,) = axes_keys
    for name, rows in groups.items():
        by_x = sorted((float(row[key]), number, row) for number, row in enumerate(rows))
        rows = [row for *_, row in by_x]
        axes.errorbar(
            [x for x, *_ in by_x], [row[metric] for row in rows], [row[f"{metric}_sd"] or 0 for row in rows],
            marker="o", markersize=3, capsize=2, linewidth=1, label=escape_dollar(name) or None,
        )  # fmt: skip
    values = sorted(_values([row for rows in groups.values() for row in rows], key))
    few = len(values) <= MAX_LABELS
    if values[0] > 0 and values[-1] >= 8 * values[0]:
        axes.set_xscale("log", base=2 if few else 10)
    if few:
        axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel=_axis_label(key), ylabel=metric)
    axes.set_title(metric_title(metric), fontsize=9)
    if any(groups) and len(groups) <= MAX_LABELS:
        axes.legend(fontsize=8, frameon=False)
    return figure


def draw_samples(pictures: Mapping[str, np.ndarray], columns: int = 4) -> Figure:
    """Draw the samples of each configuration, uint8 [H, W, 3], below its name."""
    from matplotlib.figure import Figure

    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(2.4 * min(columns, len(pictures)), 2.8 * rows + 0.3), layout="constrained")
    for number, (name, picture) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(rows, min(columns, len(pictures)), number)
        axes.imshow(picture, interpolation="antialiased")
        axes.set_title(textwrap.fill(escape_dollar(name), 30, max_lines=6, placeholder=" …"), fontsize=8)
        axes.set_axis_off()
    figure.suptitle("Samples of each configuration", fontsize=10)
    return figure


def _colour_value(metric: str, row: Row, by_distance: bool) -> float:
    """Return the number that a cell's colour shows: the mean, or its distance from the best value."""
    return rank_value(metric, row) if by_distance else row[metric]


def _axis_label(key: str) -> str:
    return {"model.beta": "β", "model.k": "number of experts K"}.get(key, key)


def _describe(key: str, value: Any) -> str:
    return f"{value}" if key in ("model", "data", "experiment") else f"{key.rpartition('.')[2]}={value}"


def _values(rows: Sequence[Row], key: str) -> set[Any]:
    return {row[key] if _number(row[key]) is None else _number(row[key]) for row in rows}


def _number(value: Any) -> float | None:
    """Return the value as a finite number, or None if it is not one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def escape_dollar(text: str) -> str:
    """Escape the sign that starts a formula in matplotlib."""
    return text.replace("$", r"\$")
