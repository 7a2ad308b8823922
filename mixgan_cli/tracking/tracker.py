"""Hands each record to every sink. A sink that fails is dropped with one warning: logging never stops a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

log = logging.getLogger("mixgan")


@dataclass(frozen=True)
class RunInfo:
    """What a sink may want to know at the start."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    total_nimg: int
    nimg: int


class Sink(Protocol):
    """A place records go to. A new one is a class with these, and a YAML in conf/logger/.

    One that does nothing with pictures says `shows_images = False`, so that fewer are drawn.
    """

    def start(self, run: RunInfo) -> None:
        """Get ready. On resume, `run.nimg` is where the run goes on."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Take a record: step, nimg, seconds, and scalars or lists of them."""

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Take a picture that was written to `path`."""

    def alarm(self, kind: str, told: str, nimg: int) -> None:
        """Take a warning: something that looks like a collapse."""

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close: with the final metrics, or with None where the run failed."""


class Tracker:
    """All sinks as one."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)

    @property
    def shows_images(self) -> bool:
        """Whether some sink shows pictures to people: those of their own, as long as they do not say otherwise."""
        return any(getattr(sink, "shows_images", True) for sink in self._sinks)

    def start(self, run: RunInfo) -> None:
        """Open every sink."""
        self._each(lambda sink: sink.start(run))

    def record(self, record: Mapping[str, Any]) -> None:
        """Log scalars: step, nimg, seconds and what there is to tell."""
        self._each(lambda sink: sink.record(record))

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Log a picture."""
        self._each(lambda sink: sink.image(name, path, nimg))

    def alarm(self, kind: str, told: str, nimg: int) -> None:
        """Tell of what looks like a collapse: usage, active or quality, and in words."""
        log.warning("warning at %s images: %s", f"{nimg:,}", told)
        self._each(lambda sink: sink.alarm(kind, told, nimg))

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close every sink; None says that the run failed."""
        self._each(lambda sink: sink.finish(summary))
        self._sinks.clear()

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception as error:  # whatever it is, the run is worth more than its log
                log.warning("%s failed and is left out from here on: %s", type(sink).__name__, error)
                self._sinks.remove(sink)
