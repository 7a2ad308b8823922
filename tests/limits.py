"""Limits of time and memory for a case of a test that gives hostile input to the program in its own process."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS, PATIENCE = 60, 600
"""What a case may take: seconds of a core, and seconds on a busy machine until it counts as waiting for something."""


@contextmanager
def limited(n_bytes: int) -> Iterator[None]:
    """Raise AssertionError inside the block if it takes too long, and MemoryError if its memory grows by more bytes."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s")

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    clocks = {signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE), signal.SIGPROF: (signal.ITIMER_PROF, SECONDS)}
    handlers = {number: signal.signal(number, too_long) for number in clocks}
    for timer, seconds in clocks.values():
        signal.setitimer(timer, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (taken + n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        for number, (timer, _) in clocks.items():
            signal.setitimer(timer, 0)
            signal.signal(number, handlers[number])
