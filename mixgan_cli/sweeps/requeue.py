"""Under submitit, a run that is out of time or pre-empted saves itself before it is requeued.

submitit requeues a job at its signal (SIGUSR2, sent some time before the limit) and ends the process at once; the job
then runs again from its last checkpoint. Here the signal first does what SIGTERM does to a run: it saves itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
