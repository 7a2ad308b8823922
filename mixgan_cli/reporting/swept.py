"""Figures of a sweep: each metric over K and beta, as a heat map or as lines with the seeds' deviation."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixgan_cli.evaluation.metrics.registry import rank_value, result_key
from mixgan_cli.reporting.sweep import Row, Table
from mixgan_cli.reporting.tables import mean_and_sd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = ("model.beta", "model.k")
"""The keys that span a heat map: rows, columns."""
BESIDE_EACH_OTHER = 3
"""Heat maps in a line."""


def figures(table: Table) -> Iterator[tuple[str, Figure]]:
    """Draw each metric of a sweep over what is swept, as (metric, figure).

    Over model.beta and model.k a heat map, over one number alone lines; each other combination of what varies is a
    panel, or a line. Nothing where no number is swept. Rows of several protocols are drawn apart.
    """
    rows = [row for row in table.by_configuration() if row["done"]]
    swept = [key for key in table.keys if key != "seed" and len(_values(rows, key)) > 1]
    numbers = [key for key in swept if all(_number(row[key]) is not None for row in rows)]
    spanning = [key for key in AXES if key in numbers] or numbers[:1]
    if not spanning:
        return
    others = [*(key for key in swept if key not in spanning), *(["protocol"] if len(table.protocols) > 1 else [])]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(", ".join(_short(key, row[key]) for key in others), []).append(row)
    for metric in table.main_metrics:
        shown = {name: [row for row in of if row[metric] is not None] for name, of in groups.items()}
        shown = {name: of for name, of in shown.items() if of}
        if len({row[metric] for of in shown.values() for row in of}) > 1:  # else there is nothing to see
            draw = draw_heat_maps if len(spanning) == 2 else draw_lines
            yield metric, draw(metric, shown, spanning)


def draw_heat_maps(metric: str, groups: dict[str, list[Row]], axes_keys: Sequence[str]) -> Figure:
    """Draw a panel a group, the first key down, the second across; in each cell mean ± deviation over seeds.

    The better a value, the brighter its cell. Of a metric whose best value is neither high nor low, the colour is the
    distance from the best value. Panels share their colours, except with other protocols, which do not compare.
    """
    from matplotlib.figure import Figure

    everything = [row for rows in groups.values() for row in rows]
    down, across = (sorted(_values(everything, key)) for key in axes_keys)
    columns = min(len(groups), BESIDE_EACH_OTHER)
    lines = -(-len(groups) // columns)
    size = (columns * max(3.4, 0.9 * len(across)), lines * (1.4 + 0.5 * len(down)))
    figure = Figure(figsize=size, layout="constrained")
    better = result_key(metric).better
    by_distance = better not in ("lower", "higher", None)
    falling = by_distance or better == "lower"
    for number, (name, rows) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(lines, columns, number)
        measured = _distance if by_distance else _value
        comparable = [measured(metric, row) for row in everything if row["protocol"] == rows[0]["protocol"]]
        least, most = min(comparable), max(comparable)
        means = np.full((len(down), len(across)), np.nan)
        for row in rows:
            y, x = (values.index(_number(row[key])) for key, values in zip(axes_keys, (down, across), strict=True))
            means[y, x] = colour = measured(metric, row)
            dark = (colour < (least + most) / 2) != falling
            told = mean_and_sd(row[metric], row[f"{metric}_sd"]).replace(" ± ", "\n± ")
            axes.text(x, y, told, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        colours = "viridis_r" if falling else "viridis"  # the better, the brighter
        shown = axes.imshow(means, cmap=colours, vmin=least, vmax=most, aspect="auto")
        figure.colorbar(shown, ax=axes, label="distance from the best value" if by_distance else "")
        axes.set_xticks(range(len(across)), [f"{value:g}" for value in across])
        axes.set_yticks(range(len(down)), [f"{value:g}" for value in down])
        axes.set(xlabel=_word(axes_keys[1]), ylabel=_word(axes_keys[0]))
        axes.set_title(textwrap.fill(_plain(name), 30), fontsize=7)
    figure.suptitle(_title(metric), fontsize=9)
    return figure


def draw_lines(metric: str, groups: dict[str, list[Row]], axes_keys: Sequence[str]) -> Figure:
    """Draw a line a group over one key, with the seeds' deviation as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    (key,) = axes_keys
    for name, rows in groups.items():
        by_x = sorted((float(row[key]), number, row) for number, row in enumerate(rows))
        rows = [row for *_, row in by_x]
        axes.errorbar(
            [x for x, *_ in by_x], [row[metric] for row in rows], [row[f"{metric}_sd"] or 0 for row in rows],
            marker="o", markersize=3, capsize=2, linewidth=1, label=_plain(name) or None,
        )  # fmt: skip
    values = sorted(_values([row for rows in groups.values() for row in rows], key))
    if values[0] > 0 and values[-1] >= 8 * values[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel=_word(key))
    axes.set_title(_title(metric), fontsize=9)
    if any(groups):
        axes.legend(fontsize=7, frameon=False)
    return figure


def _title(metric: str) -> str:
    return f"{metric} {result_key(metric).arrow}".strip()


def _value(metric: str, row: Row) -> float:
    return row[metric]


def _distance(metric: str, row: Row) -> float:
    return rank_value(metric, row)


def _word(key: str) -> str:
    return {"model.beta": "β", "model.k": "K, experts"}.get(key, key)


def _short(key: str, value: Any) -> str:
    return f"{value}" if key in ("model", "data", "experiment") else f"{key.rpartition('.')[2]}={value}"


def _values(rows: Sequence[Row], key: str) -> set[Any]:
    return {row[key] if _number(row[key]) is None else _number(row[key]) for row in rows}


def _number(value: Any) -> float | None:
    """The value as a number, where it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _plain(text: str) -> str:
    """A text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
