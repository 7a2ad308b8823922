"""Learning curves: what metrics.jsonl tells, against images shown."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixgan_cli.evaluation.metrics.registry import panel_of
from mixgan_cli.reporting.written import NAME
from mixgan_cli.runtime.io import MAX_CHARS, inside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = dict[str, list[tuple[float, float]]]
"""Of each figure, its (images shown, value) in order."""
PANELS: Mapping[str, tuple[str, ...]] = {
    "losses": ("loss/", "penalty"),
    "scores": ("score/",),
    "usage of the experts": ("gate_usage/",),
}
"""Panels of what training records, by how its names begin. Metrics name their own panel."""
PANELS_AT_MOST = 30
LEFT_OUT = ("step", "nimg", "seconds", "img_per_second", "skipped")


def read(log: Path) -> Series:
    """Return every figure of a run's log; a list becomes NAME/0, NAME/1, ….

    Another protocol's figure of a name that is there, or an evaluation's of what training tells, is NAME (PROTOCOL).
    Lines that are damaged, or none of ours, are left out: the log of a killed run may end in half a line.
    """
    series: Series = defaultdict(list)
    by: dict[str, str | None] = {}
    """What first told a figure: training (None), or which protocol."""
    if not log.is_file():
        return series
    with inside(log, log.parent).open(encoding="utf-8", errors="replace") as lines:
        for line in iter(lambda: lines.readline(MAX_CHARS + 1), ""):
            try:
                record = json.loads(line)
                nimg, protocol = float(record["nimg"]), record.get("protocol")
            except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
                continue
            for name, value in record.items():
                if name in LEFT_OUT or not NAME.fullmatch(name.replace("/", "_")):
                    continue
                if by.setdefault(name, protocol) != protocol:
                    name = f"{name} ({protocol})"
                for key, number in _scalars(name, value):
                    series[key].append((nimg, number))
    return series


def draw(series: Series, columns: int = 3) -> Figure | None:
    """Draw a panel for each kind of figure; None where there are no two points of any."""
    from matplotlib.figure import Figure  # here, for it takes a second to import
    from matplotlib.ticker import EngFormatter, MaxNLocator

    panels: dict[str, list[str]] = defaultdict(list)
    for name, points in series.items():
        if len(points) > 1:
            panels[_panel(name)].append(name)
    if not panels:
        return None
    panels = dict(list(panels.items())[:PANELS_AT_MOST])
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * min(columns, len(panels)), 2.4 * rows), layout="constrained")
    for number, (title, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, min(columns, len(panels)), number)
        for name in names:
            label = (name.partition("/")[2] or name) if len(names) > 1 else None
            marker = "." if len(series[name]) < 30 else None
            axes.plot(*zip(*series[name], strict=True), linewidth=1, marker=marker, label=label)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("images shown", fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if 1 < len(names) <= 10:
            axes.legend(fontsize=6, frameon=False, ncols=2 if len(names) > 5 else 1)
    return figure


def _panel(name: str) -> str:
    """Return the title of the panel that a series is drawn in: a shared one, or its own."""
    recorded = next((panel for panel, heads in PANELS.items() if name.startswith(heads)), None)
    return recorded or panel_of(name) or name.partition("/")[0]


def _scalars(name: str, value: Any) -> list[tuple[str, float]]:
    """A figure as one series, a list as several; tables, such as experts by classes, are no curves."""
    named = (
        [(f"{name}/{number}", part) for number, part in enumerate(value)]
        if isinstance(value, list)
        else [(name, value)]
    )
    numbers = [(key, part) for key, part in named if isinstance(part, (int, float)) and not isinstance(part, bool)]
    return [(key, float(part)) for key, part in numbers if abs(part) < 1e300]
