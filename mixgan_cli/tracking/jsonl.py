"""metrics.jsonl: the record of a run, a JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixgan_cli.runtime.io import error_summary, write_text
from mixgan_cli.tracking.tracker import Logger, RunInfo

log = logging.getLogger("mixgan")


class JsonlLogger(Logger):
    """Append records to a file. On resume, lines after the checkpoint are cut, as they will be written again.

    A full disk does not end this log: lines that cannot be written are kept in memory until the next record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    def start(self, run: RunInfo) -> None:
        """Open the file, and cut the lines that a resumed run will write again."""
        if self.path.is_file():
            lines = [line for line in _whole_lines(self.path) if not _is_repeated(json.loads(line), run)]
            write_text(self.path, "".join(f"{line}\n" for line in lines))
        self._file = self.path.open("ab", buffering=0)

    def record(self, record: Mapping[str, Any]) -> None:
        """Append a line."""
        warned = bool(self._waiting)
        self._waiting.append(json.dumps(record) + "\n")
        whole = self._file.seek(0, os.SEEK_END)
        try:
            text = "".join(self._waiting).encode()
            if self._file.write(text) < len(text):
                raise OSError("only a part was written")
            self._waiting = []
        except OSError as error:
            self._file.truncate(whole)  # remove the half line
            if not warned:
                log.warning(
                    "warning: %s cannot be written (%s); its lines are kept in memory", self.path, error_summary(error)
                )

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Append a line with the warning."""
        self.record({"nimg": nimg, "alarm": kind, "message": message})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        self._file.close()
        if self._waiting:
            log.warning("warning: %s lacks %d lines, which could not be written", self.path, len(self._waiting))


def _is_repeated(record: Mapping[str, Any], run: RunInfo) -> bool:
    """True if the resumed run will write this record again: it is after the checkpoint, or the final evaluation."""
    final_evaluation = record["nimg"] >= run.total_nimg and "img_per_second" not in record
    return record["nimg"] > run.nimg or final_evaluation


def _whole_lines(path: Path) -> list[str]:
    """Return the complete lines. A killed process may have left half a line at the end."""
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
