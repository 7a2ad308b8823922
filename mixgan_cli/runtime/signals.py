"""Signals: stop a run in a consistent state, end jobs with their sweep, and save before SLURM requeues a job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that end a run after it has saved its state. SIGHUP means that its terminal was closed."""
REPEAT_SECONDS = 2.0
"""A repeat within this time counts as the same Ctrl+C."""


class Interrupted(BaseException):
    """A signal asked the process to end.

    It is not an Exception, so that code which continues after errors does not continue after it.
    """

    def __init__(self, number: int, in_critical_section: bool = False) -> None:
        super().__init__(number, in_critical_section)  # can be pickled
        self.number = number
        self.in_critical_section = in_critical_section
        """True if the signal interrupted a critical section, so the state must not be saved."""

    def __str__(self) -> str:
        return signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


def interruption(error: BaseException) -> Interrupted | None:
    """Return the signal from which an error follows, if any: a library may raise another error in its place."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, Interrupted):
        cause = cause.__cause__ or cause.__context__
    return cause


class Interruptions:
    """Turn SIGTERM, SIGINT and SIGHUP into `Interrupted`. Inside `deferred()`, keep the signal in `received` instead.

    A second Ctrl+C inside `deferred()` raises immediately. A repeat within REPEAT_SECONDS does not, and a signal that
    was raised is not raised again within this time: it is the same one, which a terminal or SLURM sent to all processes
    and a sweep or a launcher forwarded.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The signal that arrived inside `deferred()`."""
        self._received_at = 0.0
        self._raised: tuple[int, float] | None = None
        self._deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruptions:
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # ignored under nohup
        self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *about: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Do not interrupt the block. Afterwards, `received` has the signal that arrived in it, if any."""
        before, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        repeated = number == signal.SIGINT and self.received is not None and now - self._received_at > REPEAT_SECONDS
        if self.received is None:
            self.received, self._received_at = number, now
        if self._deferring and not repeated:
            return
        if self._raised and self._raised[0] == number and now - self._raised[1] <= REPEAT_SECONDS:
            return
        self._raised = number, now
        raise Interrupted(number, in_critical_section=self._deferring)


SIGTERM_EXIT_CODE = 128 + signal.SIGTERM


@contextmanager
def end_with_parent(parent: int) -> Iterator[None]:
    """Send this process SIGTERM when its parent, the process id `parent`, ends. Exit if it has ended already."""
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        os._exit(SIGTERM_EXIT_CODE)  # the launcher would catch an exception and start the next job
    child = os.getppid() == parent
    if child and not any(thread.name == __name__ for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent,), name=__name__, daemon=True).start()
    try:
        yield
    except BaseException:
        if child and os.getppid() != parent:
            os._exit(SIGTERM_EXIT_CODE)
        raise


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


REQUEUE_SIGNAL = signal.SIGUSR2
"""The signal that submitit's jobs get before their time is over."""


@contextmanager
def save_before_requeue() -> Iterator[None]:
    """At submitit's signal, let the block save its state and end, then requeue the job; elsewhere, do nothing."""
    requeue, ignore = signal.getsignal(REQUEUE_SIGNAL), signal.getsignal(signal.SIGTERM)
    if "SUBMITIT_EXECUTOR" not in os.environ or not callable(requeue):
        yield
        return
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if signal.getsignal(signal.SIGTERM) is ignore:  # no run is active that could save its state
            requeue(number, frame)
        requested = True
        signal.raise_signal(signal.SIGTERM)

    signal.signal(REQUEUE_SIGNAL, handle)
    try:
        yield
    except BaseException:
        if requested:
            requeue(REQUEUE_SIGNAL, None)
        raise
    finally:
        signal.signal(REQUEUE_SIGNAL, requeue)
