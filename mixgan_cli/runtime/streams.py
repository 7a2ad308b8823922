"""Standard output and error: any text on any terminal, and readers that go away."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress

CLOSED_PIPE_EXIT_CODE = 128 + signal.SIGPIPE
"""The exit code of a program whose output nobody reads any more, as in shells."""


def accept_any_text() -> None:
    """Escape characters that the terminal's encoding lacks, and bytes of file names that are not text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Send what is still to be written to standard output nowhere, because its reader is gone."""
    with suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
