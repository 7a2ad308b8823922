"""Standard output and error: any text on any terminal, and readers that go away."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from mixgan_cli.errors import error_summary

CLOSED_PIPE_EXIT_CODE = 128 + signal.SIGPIPE
"""The exit code of a program whose output nobody reads any more, as in shells."""


class OutputError(Exception):
    """Standard output cannot be written, for example to a full disk."""


class OptionalStream:
    """A text stream that drops what its file does not take: messages are worth less than the work they report."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text if possible, and return its length."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def prepare_streams() -> None:
    """Let standard output and error take any text, and let nothing fail because of standard error.

    Characters that the terminal's encoding lacks are escaped, and bytes of file names that are not text. A stream that
    is closed is opened on the null device, because the next file that is opened would take its place.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = cast(TextIO, OptionalStream(sys.stderr))


def print_line(text: str = "") -> None:
    """Print a line to standard output; an empty text flushes what was printed.

    Raises:
        BrokenPipeError: its reader is gone.
        OutputError: it cannot be written.
    """
    try:
        print(text, end="\n" if text else "", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({error_summary(error)})") from error


def discard_output() -> None:
    """Send what is still to be written to standard output nowhere, because its reader is gone."""
    with suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
