"""Signals: stop a run where its state is consistent, follow a sweep that ends, and save before SLURM requeues."""

from __future__ import annotations

import os
import signal
import threading
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


CODE = 128 + signal.SIGTERM


@contextmanager
def ending_with(sweep: int) -> Iterator[None]:
    """Send this process SIGTERM when its parent, the process `sweep`, is gone; do not even begin when it is already."""
    try:
        os.kill(sweep, 0)
    except ProcessLookupError:
        os._exit(CODE)  # not an exception: the launcher's loop would catch it, and take the next job
    child = os.getppid() == sweep
    if child and not any(thread.name == __name__ for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(sweep,), name=__name__, daemon=True).start()
    try:
        yield
    except BaseException:
        if child and os.getppid() != sweep:
            os._exit(CODE)
        raise


def _watch(sweep: int) -> None:
    while os.getppid() == sweep:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


ASKED = signal.SIGUSR2


@contextmanager
def saved_before_requeue() -> Iterator[None]:
    """Have what runs inside end itself at submitit's signal, and be requeued then. Elsewhere, do nothing."""
    requeue, ignore = signal.getsignal(ASKED), signal.getsignal(signal.SIGTERM)
    if "SUBMITIT_EXECUTOR" not in os.environ or not callable(requeue):
        yield
        return
    asked = False

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if signal.getsignal(signal.SIGTERM) is ignore:  # nothing that could be saved is running
            requeue(number, frame)
        asked = True
        signal.raise_signal(signal.SIGTERM)

    signal.signal(ASKED, take)
    try:
        yield
    except BaseException:
        if asked:
            requeue(ASKED, None)
        raise
    finally:
        signal.signal(ASKED, requeue)
