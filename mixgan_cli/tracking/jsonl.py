"""metrics.jsonl: the record of a run, a JSON object a line."""

from __future__ import annotations

import io
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from mixgan_cli.errors import error_summary
from mixgan_cli.runtime.io import write_text
from mixgan_cli.runtime.reading import MALFORMED, open_regular
from mixgan_cli.tracking.tracker import Logger, RunInfo

log = logging.getLogger("mixgan")


MAX_WAITING = 2**24
"""Maximum size of the lines that wait in memory [characters]. Beyond it, the oldest ones are dropped."""
MAX_LOG_BYTES = 2**30
"""Largest log that a run can be resumed with [bytes], because its lines are read into memory."""
MAX_LINE = 2**22
"""Longest line that is read [characters]."""


class JsonlLogger(Logger):
    """Append records to a file. On resume, lines after the checkpoint are cut, as they will be written again.

    Lines that cannot be written, for example to a full disk, wait in memory and are written with a later record.

    Args:
        path: the file.
        waiting: lines that the run before it was interrupted could not write, the oldest first. Lines that wait now are
            added, so the run's state can keep them.
    """

    def __init__(self, path: Path, waiting: list[str] | None = None) -> None:
        self.path = path
        self._waiting = [] if waiting is None else waiting
        self._dropped = 0
        self._file: FileIO | None = None
        self._unwritable = False

    def start(self, run: RunInfo) -> None:
        """Open the file, and cut the lines that a resumed run will write again."""
        self._run = run
        waiting = ((line, parse_record(line)) for line in self._waiting)
        self._waiting[:] = [line for line, record in waiting if record and not _is_repeated(record, run)]
        self._try_to_flush()

    def record(self, record: Mapping[str, Any]) -> None:
        """Append a line."""
        self._waiting.append(json.dumps(record))
        self._try_to_flush()

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Append a line with the warning."""
        self.record({"nimg": nimg, "alarm": kind, "message": message})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        self._try_to_flush()
        if self._file is not None:
            self._file.close()
        if missing := len(self._waiting) + self._dropped:
            log.warning("warning: %s lacks %d lines, which could not be written", self.path, missing)

    def flush(self) -> None:
        """Write the lines that wait.

        Raises:
            OSError: they cannot be written, and wait longer.
        """
        if self._file is None:
            self._file = self._open()
        whole = self._file.seek(0, os.SEEK_END)
        text = "".join(f"{line}\n" for line in self._waiting).encode()
        try:
            if self._file.write(text) < len(text):
                raise OSError("only a part was written")
            os.fsync(self._file.fileno())  # a checkpoint that is saved next is never ahead of the log
        except OSError:
            self._file.truncate(whole)  # remove the half line
            raise
        self._waiting.clear()

    def _try_to_flush(self) -> None:
        """Write the lines that wait, or log once that they cannot be written."""
        try:
            self.flush()
            self._unwritable = False
        except OSError as error:
            if not self._unwritable:
                log.warning(
                    "warning: %s cannot be written (%s); its lines are kept in memory", self.path, error_summary(error)
                )
            self._unwritable = True
            while sum(map(len, self._waiting)) > MAX_WAITING:
                del self._waiting[0]
                self._dropped += 1

    def _open(self) -> FileIO:
        """Open the file without the lines that the resumed run will write again. Lines that it has wait no longer."""
        if self.path.is_file():
            lines = [line for line, record in read_records(self.path) if not _is_repeated(record, self._run)]
            write_text(self.path, "".join(f"{line}\n" for line in lines))
            written = set(lines)
            self._waiting[:] = [line for line in self._waiting if line not in written]
        return open_regular(self.path, "ab")


def _is_repeated(record: Mapping[str, Any], run: RunInfo) -> bool:
    """True if the resumed run will write this record again: it is after the checkpoint, or the final evaluation."""
    final_evaluation = record["nimg"] >= run.total_nimg and not {"img_per_second", "alarm"} & record.keys()
    return record["nimg"] > run.nimg or final_evaluation


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of a log with their records. A warning says how many damaged lines are left out.

    A line without an end is left out too, because a killed process may have written half of it.

    Raises:
        OSError: the log is not a regular file, or larger than MAX_LOG_BYTES.
    """
    damaged = 0
    with (
        open_regular(path, max_bytes=MAX_LOG_BYTES) as file,
        io.TextIOWrapper(io.BufferedReader(file), "utf-8", "replace", newline="\n") as lines,
    ):
        for line in iter(lambda: lines.readline(MAX_LINE), ""):
            text = line.strip("\0\n")  # after a power cut, a file can have zeros where lines were
            record = parse_record(text)
            if record is not None and line.endswith("\n"):
                yield text, record
            damaged += "\0" in line or (record is None and line.endswith("\n"))
    if damaged:
        log.warning("warning: %s: %d damaged lines are left out", path, damaged)


def parse_record(line: str) -> dict[str, Any] | None:
    """Return the record in a line of a log, or None if the line is damaged."""
    try:
        record = json.loads(line)
        return record if isinstance(record, dict) and math.isfinite(record["nimg"]) else None
    except MALFORMED:
        return None
