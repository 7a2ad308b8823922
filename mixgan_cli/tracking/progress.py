"""The progress bar on stderr: images, losses, images per second, time left, and an estimate of the whole run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mixgan_cli.tracking.tracker import Logger, RunInfo

log = logging.getLogger("mixgan")

ESTIMATE_AFTER = 5.0, 2
"""Seconds and iterations that are measured before the length of the run is estimated."""
LONG, HALF_AN_HOUR = 3600.0, 1800.0
"""Seconds of a run that is called long, and of the shorter run that is suggested."""
BUSY = 0.25
"""Share of the time that a thread waits for a core from which on the cores are called busy; it is near 0 otherwise."""
SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Nanoseconds that this thread ran and waited for a core, on Linux."""


class ProgressBar(Logger):
    """Show a bar that moves in time on a terminal; elsewhere, print a line every 15 seconds."""

    def start(self, run: RunInfo) -> None:
        """Show the bar."""
        self._run = run
        self._alarms: dict[str, str] = {}
        self._meter: RateMeter | None = RateMeter()
        self._ran, self._waited = core_seconds()
        on_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=run.total_nimg,
            initial=run.nimg,
            desc=run.name,
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.5 if on_terminal else 15,
            miniters=1,
        )
        self._messages = ExitStack()
        if on_terminal:  # messages go above the bar, which is drawn again; in a file that would double them
            self._messages.enter_context(logging_redirect_tqdm([log]))

    def advance(self, nimg: int) -> None:
        """Move the bar. Once the speed is known, log how long the run takes."""
        self._bar.update(nimg - self._bar.n)
        if self._meter and (speed := self._meter.img_per_second(nimg)):
            self._meter = None
            ran, waited = core_seconds()
            busy = busy_cores(ran - self._ran, waited - self._waited, self._run.threads)
            for message in filter(None, (estimate(speed, nimg, self._run), busy)):
                log.info(message)

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
        self._messages.close()
        self._bar.close()


class RateMeter:
    """Measure images per second after the first iteration, which is slower than the others."""

    def __init__(self) -> None:
        self._calls: list[tuple[float, int]] = []

    def img_per_second(self, nimg: int) -> float | None:
        """Return the images per second, or None before the measurement is long enough.

        Call it before the first iteration and after each one.
        """
        self._calls.append((time.monotonic(), nimg))
        min_seconds, min_iterations = ESTIMATE_AFTER
        if len(self._calls) < 2 + min_iterations:
            return None
        (began, first), (now, last) = self._calls[1], self._calls[-1]
        return (last - first) / (now - began) if now - began >= min_seconds else None


def estimate(img_per_second: float, nimg: int, run: RunInfo) -> str | None:
    """Return a line on how long the rest of the run takes, or None if it takes less than a minute.

    If a new run takes hours, the line names a length that takes about half an hour.

    Args:
        img_per_second: images per second.
        nimg: images shown so far.
        run: the run.
    """
    seconds = (run.total_nimg - nimg) / img_per_second
    if seconds < 60:
        return None
    length = f"{duration(seconds)}{' more' if run.nimg else ''}"
    line = f"training takes about {length} at {img_per_second:,.3g} images/s on {run.device}"
    if seconds < LONG or run.nimg:  # a resumed run cannot be made shorter
        return line
    shorter = max(1, int(float(f"{img_per_second * HALF_AN_HOUR:.0e}")))
    return f"{line}; training.nimg={shorter:_} takes {duration(shorter / img_per_second)}"


def core_seconds() -> tuple[float, float]:
    """Return for how many seconds this thread ran and for how many it waited for a core; zeros if unknown."""
    with suppress(OSError, ValueError):
        ran, waited, _ = SCHEDSTAT.read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9
    return 0.0, 0.0


def busy_cores(ran: float, waited: float, threads: int) -> str | None:
    """Return a line that recommends one thread, or None if that would not help.

    Threads wait for each other after each small operation, so with several of them each delay of one delays all.

    Args:
        ran: seconds that the main thread ran.
        waited: seconds that it waited for a core.
        threads: the threads that train on the CPU.
    """
    share = waited / max(ran + waited, 1e-9)
    if threads == 1 or share < BUSY:
        return None
    return (
        f"other programs use the cores: training waits for one {share:.0%} of the time. "
        "hardware.threads=1 is probably faster until they end"
    )


def duration(seconds: float) -> str:
    """Return a length of time in the unit that suits it: `50 s`, `30 min`, `14 h`, `3.5 days`."""
    for unit, size, below in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 72 * 3600)):
        if seconds < below:
            return f"{seconds / size:.2g} {unit}" if seconds / size < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:,.{0 if seconds > 8.64e5 else 1}f} days"
