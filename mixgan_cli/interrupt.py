"""SIGTERM and SIGINT end a run at a place where its state is whole."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 2.0
"""Seconds after which a second Ctrl+C is one."""


class Interrupted(BaseException):
    """The process was told to end. Not an Exception: what goes on after an error must not go on after this."""

    def __init__(self, number: int, at_once: bool = False) -> None:
        super().__init__(number, at_once)  # so that it can come from another process
        self.number = number
        self.at_once = at_once
        """Whether it would have had to be held: what was going on is not whole."""

    def __str__(self) -> str:
        return signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells count: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class Interruptions:
    """Turns the signals into `Interrupted`: at once, or, where they come inside `held`, when asked.

    A second Ctrl+C inside `held`, some time after the first, is not held any more: whoever presses it again will not
    wait. (One that follows at once is the same one, passed on to the processes of a run on several devices.)
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that came while it was held."""
        self._when = 0.0
        self._held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruptions:
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup, a background job
        self._before = {number: signal.signal(number, self._take) for number in heard}
        return self

    def __exit__(self, *about: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let, inside, nothing be interrupted; what came is in `received` afterwards."""
        before, self._held = self._held, True
        try:
            yield
        finally:
            self._held = before

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        impatient = number == signal.SIGINT and self.received is not None and now - self._when > PATIENCE
        if self.received is None:
            self.received, self._when = number, now
        if not self._held or impatient:
            raise Interrupted(number, at_once=self._held)
