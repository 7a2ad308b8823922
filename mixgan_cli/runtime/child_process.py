"""Run work in a child process, so that this process goes on if the work is killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeVar

from mixgan_cli.runtime.signals import REQUEUE_SIGNAL, SIGNALS, Interrupted, Interruptions

Result = TypeVar("Result")
POLL_SECONDS = 0.5
"""Time between two looks at a child whose end a process of its own may hide, in seconds."""
PR_SET_PDEATHSIG = 1
"""Linux's option of prctl that sets the signal which a process gets when its parent ends."""


class ProcessDied(Exception):
    """A signal or an abrupt exit ended the child before it had a result.

    Args:
        code: its exit code; negative for a signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        if self.code >= 0:
            return f"its process ended with exit code {self.code} and without a result"
        names = {each.value: each.name for each in signal.Signals}
        cause = ", often the out-of-memory killer" if -self.code == signal.SIGKILL else ""
        return f"killed by signal {-self.code} ({names.get(-self.code, 'real-time')}){cause}"

    @property
    def exit_code(self) -> int:
        """The exit code as in shells, 128 + the signal's number; never 0."""
        return 128 - self.code if self.code < 0 else self.code or 1


def run_in_child(work: Callable[[], Result]) -> Result:
    """Run `work()` in a forked process, which ends with this one, and return its result.

    SIGINT, SIGTERM and SIGHUP are forwarded to it; it raises `Interrupted` there. This process may not have computed
    gradients or used CUDA, as neither works after a fork.

    Args:
        work: a function whose result and exceptions can be pickled.

    Raises:
        ProcessDied: the child, and not this process, got a signal that ended it, or it exited.
        Interrupted: this process got a signal, and the child has ended.
        BaseException: `work` raised it.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child handles them
    process = context.Process(target=_run, args=(work, sender, os.getpid(), before))
    try:
        with _forwarding(process) as forwarding:
            process.start()
            forwarding.started()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            sender.close()
            answer = _answer(process, receiver)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()
        receiver.close()
    received = forwarding.received
    if answer is None:
        raise Interrupted(received[0]) if received else ProcessDied(process.exitcode or 0)
    result: Result
    result, error = answer
    if isinstance(error, Interrupted) and not received:
        raise ProcessDied(-error.number)
    if error is not None:
        raise error
    if received:
        signal.raise_signal(received[0])  # it came too late for the child
    return result


class _Forwarding:
    """Forward the signals of this process to a child, and note them."""

    def __init__(self, process: BaseProcess) -> None:
        self.received: list[int] = []
        self._process = process

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Other threads may get it at any time, also before the child has started."""
        self.received.append(number)
        self._send(number)

    def started(self) -> None:
        """Forward what arrived before the child had started."""
        for number in self.received:
            self._send(number)

    def _send(self, number: int) -> None:
        if self._process.pid:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


@contextmanager
def _forwarding(process: BaseProcess) -> Iterator[_Forwarding]:
    """Forward signals to a process that starts inside the block, and wait at its end until the process has ended."""
    forwarding = _Forwarding(process)
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # ignored under nohup
    handlers = {number: signal.signal(number, forwarding.handle) for number in handled}
    try:
        yield forwarding
        process.join()
    except BaseException:
        if process.pid:
            process.kill()
            process.join()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _answer(process: BaseProcess, receiver: Connection) -> Any:
    """Return what the child sent, or None if it has ended without."""
    while True:
        ended = process.exitcode is not None  # the pipe stays open if the child has left a process of its own
        if receiver.poll(0):
            with suppress(EOFError, OSError):
                return pickle.loads(receiver.recv_bytes())
            return None
        if ended:
            return None
        wait([receiver, process.sentinel], POLL_SECONDS)


def _run(work: Callable[[], Any], sender: Connection, parent: int, mask: set[signal.Signals]) -> None:
    """Run `work` in the child and send (result, None) or (None, exception)."""
    _end_with(parent)
    if callable(signal.getsignal(REQUEUE_SIGNAL)):
        signal.signal(REQUEUE_SIGNAL, signal.SIG_IGN)  # the parent requeues the job
    answer: tuple[Any, BaseException | None]
    with Interruptions():
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            answer = work(), None
        except BaseException as error:
            answer = None, error
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        data = pickle.dumps(answer)
        pickle.loads(data)
    except Exception as error:
        cause = "".join(traceback.format_exception(answer[1] or error))
        data = pickle.dumps((None, RuntimeError(f"in a process of its own:\n{cause}")))
    sender.send_bytes(data)


def _end_with(parent: int) -> None:
    """Let the system kill this process when its parent ends, however that ends. Exit if it has ended already.

    It is killed at once, unlike by `signals.end_with_parent`, so that the repeated command finds the run unlocked.
    """
    with suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
