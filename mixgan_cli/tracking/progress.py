"""The progress bar on stderr: images, losses, images a second, time left."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mixgan_cli.tracking.tracker import RunInfo


class ProgressBar:
    """A bar on a terminal; elsewhere, a line now and then."""

    shows_images = False

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

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Do nothing."""

    def alarm(self, kind: str, told: str, nimg: int) -> None:
        """Show, from here on, when it came about."""
        self._alarms[f"warning {kind}"] = f"at {nimg:,}"

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Take the bar away."""
        self._bar.close()
