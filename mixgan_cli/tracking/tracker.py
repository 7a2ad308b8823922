"""Pass every record to all loggers. A logger that fails is dropped with one warning: logging never stops a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("mixgan")


@dataclass(frozen=True)
class RunInfo:
    """The run, as a logger sees it at the start."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    total_nimg: int
    """Images at the end of the training; less than its length if an alarm has ended it."""
    nimg: int
    """Images shown so far: 0 for a new run, more for a resumed one."""
    device: str = "this machine"
    """What the run trains on, for messages."""
    threads: int = 1
    """Threads that train on the CPU; 1 on a GPU."""
    sweep: str | None = None
    """The name of the sweep that the run belongs to."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the run is, in short: hash (without the seed), seed, data, model, objective, and parameters by part."""
    captions: Mapping[str, str] = field(default_factory=dict)
    """What pictures show, by name, in sentences."""


class Logger:
    """The methods of a logger, each of which does nothing here.

    A new logger is a class and a YAML file in conf/logger/. It needs `record`; the other methods are optional, and it
    need not inherit from this class. A class without `image` gets no pictures, and fewer are drawn.
    """

    def start(self, run: RunInfo) -> None:
        """Open the log. A resumed run continues at `run.nimg`."""

    def advance(self, nimg: int) -> None:
        """Note that the run has seen `nimg` images. Called after each iteration, so it must be fast."""

    def record(self, record: Mapping[str, Any]) -> None:
        """Log a record: step, nimg, seconds, and scalars or lists of scalars."""

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Log the picture at `path`."""

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Log a warning of a collapse; `kind` is usage, active or quality."""

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the log, with the final metrics and the best of each, best/NAME; or with None if the run failed."""


class Tracker:
    """All loggers of a run as one."""

    def __init__(self, loggers: Sequence[Any]) -> None:
        self._loggers = list(loggers)

    @property
    def shows_images(self) -> bool:
        """True if a logger has a method for pictures."""
        return any(getattr(type(logger), "image", Logger.image) is not Logger.image for logger in self._loggers)

    def start(self, run: RunInfo) -> None:
        """Open every logger."""
        self._call("start", run)

    def advance(self, nimg: int) -> None:
        """Note that the run has seen `nimg` images."""
        self._call("advance", nimg)

    def record(self, record: Mapping[str, Any]) -> None:
        """Log a record: step, nimg, seconds, and scalars or lists of scalars."""
        self._call("record", record)

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Log a picture."""
        self._call("image", name, path, nimg)

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Print and log a warning of a collapse; `kind` is usage, active or quality."""
        log.warning("warning at %s images: %s", f"{nimg:,}", message)
        self._call("alarm", kind, message, nimg)

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close every logger; `summary` is None if the run failed."""
        self._call("finish", summary)
        self._loggers.clear()

    def _call(self, method: str, *arguments: Any) -> None:
        for logger in list(self._loggers):
            try:
                function = getattr(logger, method, None)
                if function is not None:
                    function(*arguments)
            except Exception as error:  # whatever it is, the run is worth more than its log
                log.warning("%s failed and is disabled for the rest of the run: %s", type(logger).__name__, error)
                self._loggers.remove(logger)


def flatten_lists(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without lists: entry i of the list `name` is called `name/i`."""

    def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, list):
            for number, entry in enumerate(value):
                yield from walk(f"{name}/{number}", entry)
        else:
            yield name, value

    return dict(entry for name, value in record.items() for entry in walk(name, value))
