"""The program in processes of its own, which begin at once: forked from a server that has imported everything.

The server is forked from nothing that has run a test, so no thread or lock of the tests is in its children.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DEADLINE = 300
"""Seconds that a test waits for a process. Generous: a busy machine is slow."""


class Ended(NamedTuple):
    """What a process left."""

    code: int
    out: str
    err: str


@cache
def server() -> multiprocessing.context.ForkServerContext:
    """Return the context whose processes are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.warm"])
    before = Path.cwd()
    os.chdir(ROOT)  # where the server imports from
    forkserver.ensure_running()
    os.chdir(before)
    return context


class Program:
    """`mixgan` with these arguments, in a folder and with the environment of now. A negative code is a signal's."""

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self.logs = Path(mkdtemp(dir=folder, prefix=".process-"))
        started = (list(arguments), str(folder), dict(os.environ), str(self.logs))
        self.process = server().Process(target=_run, args=started)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        if self.pid and self.process.is_alive():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, and wait until it has ended."""
        self.send_signal(signal.SIGKILL)
        self.process.join()

    def output(self) -> str:
        """Return what it has written to stdout so far."""
        return (self.logs / "out").read_text() if (self.logs / "out").is_file() else ""

    def wait_for(self, found: Callable[[], object]) -> None:
        """Wait until a condition holds, while it runs."""
        deadline = time.monotonic() + DEADLINE
        while not found():
            if self.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"it ended too soon, or hung: {self.finish()}")
            time.sleep(0.01)

    def finish(self) -> Ended:
        """Wait until it has ended."""
        self.process.join(DEADLINE)
        if self.process.exitcode is None:
            self.kill()
        return Ended(self.process.exitcode or 0, self.output(), (self.logs / "err").read_text())


def _run(arguments: list[str], folder: str, environment: dict[str, str], logs: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its jobs in the background ignore it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(logs) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    from mixgan_cli.cli import main

    sys.exit(main(arguments))
