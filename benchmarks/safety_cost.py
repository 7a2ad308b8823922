"""Measure the cost of reports, checkpoints and checks as a share of the wall-clock time at the default intervals.

    python benchmarks/safety_cost.py [overrides of mixgan train ...]        (make bench-safety)

Each part is timed in a real run on Fashion-MNIST. Checkpoints are written more often than by default, so that there are
enough to time; their cost is scaled to the default interval.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from typing import Any

import torch

from mixgan_cli import cli
from mixgan_cli.training import loop
from mixgan_cli.training.callbacks import Callbacks
from mixgan_cli.training.step import Means

EVERY = {"report": 12_800, "state": 250_000}
"""Default intervals, in images (conf/config.yaml)."""
NIMG = 38_400


def main() -> int:
    """Train, print the table and return the exit code."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(place: Any, name: str, title: str) -> None:
        real = getattr(place, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return real(*arguments, **named)
            finally:
                spent[title].append(time.perf_counter() - began)

        setattr(place, name, measured)

    timed(loop, "iterate", "iteration")
    timed(Callbacks, "_report", "report")
    timed(Callbacks, "save", "state")
    timed(Means, "add", "means")
    timed(torch.nn.utils, "get_total_norm", "finite")
    with tempfile.TemporaryDirectory() as outputs:
        code = cli.main(
            ["train", "data=fashion_mnist", "model=hmog", f"training.nimg={NIMG}", "training.checkpoint_nimg=12_800",
             "training.sample_nimg=null", "evaluation=none", f"paths.outputs={outputs}", *sys.argv[1:]]
        )  # fmt: skip
    if code:
        return code
    iterations = len(spent["iteration"])
    whole = statistics.median(spent["iteration"]) * iterations / NIMG  # seconds per image
    each = {
        **{title: statistics.median(spent[title]) / every for title, every in EVERY.items()},
        **{title: sum(spent[title]) / NIMG for title in ("means", "finite")},
    }
    titles = {
        "report": f"a report every {EVERY['report']:,} images, {1e3 * statistics.median(spent['report']):.0f} ms",
        "state": f"a checkpoint every {EVERY['state']:,} images, {1e3 * statistics.median(spent['state']):.0f} ms",
        "means": "means of losses, every step",
        "finite": "check that all gradients are finite, every step",
    }
    outside = each["report"] + each["state"]  # the other two are within an iteration
    print(f"\n{1 / (whole + outside):.0f} images/s, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| | share of the wall-clock time |\n|---|---|")
    for title, seconds in each.items():
        print(f"| {titles[title]} | {100 * seconds / (whole + outside):.2f} % |")
    print(f"| **total** | **{100 * sum(each.values()) / (whole + outside):.2f} %** |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
