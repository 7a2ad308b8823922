"""A process that a launcher started does not outlive its sweep: repeated, the sweep finds its runs free."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
