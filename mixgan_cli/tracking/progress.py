"""The progress bar on stderr: images, losses, images per second, time left."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from mixgan_cli.tracking.tracker import Logger, RunInfo


class ProgressBar(Logger):
    """Show a bar on a terminal; elsewhere, print a line every 15 seconds."""

    def start(self, run: RunInfo) -> None:
        """Show the bar."""
        self._alarms: dict[str, str] = {}
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=run.total_nimg,
            initial=run.nimg,
            desc=run.name,
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.1 if on_terminal else 15,
        )

    def record(self, record: Mapping[str, Any]) -> None:
        """Move the bar and show the losses."""
        shown = {name: f"{value:.3g}" for name, value in record.items() if name.startswith("loss/")}
        losses = {name.removeprefix("loss/"): value for name, value in shown.items()}
        self._bar.set_postfix({**losses, **self._alarms}, refresh=False)
        self._bar.update(record["nimg"] - self._bar.n)

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Show the kind of the warning and when it was raised, until the end of the run."""
        self._alarms[f"warning {kind}"] = f"at {nimg:,}"

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Remove the bar."""
        self._bar.close()
