"""Learning curves: what metrics.jsonl tells, against images shown."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixgan_cli.files import LONGEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = dict[str, list[tuple[float, float]]]
"""Of each figure, its (images shown, value) in order."""
PANELS: Mapping[str, tuple[str, ...]] = {
    "losses": ("loss/", "penalty"),
    "scores": ("score/",),
    "usage of the experts": ("gate_usage/", "expert_usage/"),
    "k-NN test": ("knn_",),
    "MS-SSIM": ("ms_ssim",),
}
"""What is drawn together, by how its names begin; of the rest each has a panel of its own."""
LEFT_OUT = ("step", "nimg", "seconds", "img_per_second", "skipped")


def read(log: Path) -> Series:
    """Return every figure of a run's log; a list becomes NAME/0, NAME/1, ….

    What an evaluation says of a figure that training tells as well is a series of its own, NAME (evaluation).
    Lines that are damaged, or none of ours, are left out: the log of a killed run may end in half a line.
    """
    series: Series = defaultdict(list)
    estimated: set[str] = set()
    """What training tells too, of its own samples: another measure than the evaluation's of the same name."""
    if not log.is_file():
        return series
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line) if len(line) <= LONGEST else {}
                nimg = float(record["nimg"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            for name, value in record.items():
                if name in LEFT_OUT:
                    continue
                if "protocol" in record and name in estimated:
                    name = f"{name} (evaluation)"
                elif "protocol" not in record:
                    estimated.add(name)
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
            own = name.partition("/")[0]
            panels[next((panel for panel, heads in PANELS.items() if name.startswith(heads)), own)].append(name)
    if not panels:
        return None
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


def _scalars(name: str, value: Any) -> list[tuple[str, float]]:
    """A figure as one series, a list as several; tables, such as experts by classes, are no curves."""
    named = (
        [(f"{name}/{number}", part) for number, part in enumerate(value)]
        if isinstance(value, list)
        else [(name, value)]
    )
    return [(key, float(part)) for key, part in named if isinstance(part, (int, float)) and not isinstance(part, bool)]
