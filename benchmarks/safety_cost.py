"""What safety costs: reports, states and checks of every step, as a share of the wall-clock at the default frequencies.

    python benchmarks/safety_cost.py [overrides of mixgan train ...]        (make bench-safety)

A real run on Fashion-MNIST in which each of these is timed where it happens. States are saved more often than by
default, so that there are some to time; what they cost is scaled to the default frequency.
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
"""Images between two, by default (conf/config.yaml)."""
NIMG = 38_400


def main() -> int:
    """Train, and print the table."""
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
    whole = statistics.median(spent["iteration"]) * iterations / NIMG  # of an image
    each = {
        **{title: statistics.median(spent[title]) / every for title, every in EVERY.items()},
        **{title: sum(spent[title]) / NIMG for title in ("means", "finite")},
    }
    told = {
        "report": f"a report every {EVERY['report']:,} images, {1e3 * statistics.median(spent['report']):.0f} ms",
        "state": f"a state every {EVERY['state']:,} images, {1e3 * statistics.median(spent['state']):.0f} ms",
        "means": "means of losses, every step",
        "finite": "are all gradients finite, every step",
    }
    outside = each["report"] + each["state"]  # the other two are within an iteration
    print(
        f"\n{1 / (whole + outside):.0f} images a second, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    print("| | share of the wall-clock |\n|---|---|")
    for title, seconds in each.items():
        print(f"| {told[title]} | {100 * seconds / (whole + outside):.2f} % |")
    print(f"| **together** | **{100 * sum(each.values()) / (whole + outside):.2f} %** |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
