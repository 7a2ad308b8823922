"""metrics.jsonl: the record of a run, a JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixgan_cli.runtime.io import error_summary, write_text
from mixgan_cli.tracking.tracker import RunInfo

log = logging.getLogger("mixgan")


class JsonlSink:
    """Appends records to a file. On resume, lines beyond the checkpoint are cut: they will be written again.

    It is the truth about a run, so a full disk does not end it: lines that cannot be written wait for the next try.
    """

    shows_images = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    def start(self, run: RunInfo) -> None:
        """Keep what was logged up to the image the run goes on from."""
        if self.path.is_file():
            kept = [line for line in _whole_lines(self.path) if not _comes_again(json.loads(line), run)]
            write_text(self.path, "".join(f"{line}\n" for line in kept))
        self._file = self.path.open("ab", buffering=0)

    def record(self, record: Mapping[str, Any]) -> None:
        """Append a line."""
        told_before = bool(self._waiting)
        self._waiting.append(json.dumps(record) + "\n")
        whole = self._file.seek(0, os.SEEK_END)
        try:
            text = "".join(self._waiting).encode()
            if self._file.write(text) < len(text):
                raise OSError("only a part could be written")
            self._waiting = []
        except OSError as error:
            self._file.truncate(whole)  # never half a line
            if not told_before:
                log.warning("warning: %s cannot be written (%s); its lines wait", self.path, error_summary(error))

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Do nothing: the picture is in the run's folder."""

    def alarm(self, kind: str, told: str, nimg: int) -> None:
        """Append a line that says so."""
        self.record({"nimg": nimg, "alarm": kind, "told": told})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        self._file.close()
        if self._waiting:
            log.warning("warning: %s lacks %d lines that could not be written", self.path, len(self._waiting))


def _comes_again(record: Mapping[str, Any], run: RunInfo) -> bool:
    """Whether the resumed run will write this record anew: what lies beyond its state, and the final evaluation."""
    final_evaluation = record["nimg"] >= run.total_nimg and "img_per_second" not in record
    return record["nimg"] > run.nimg or final_evaluation


def _whole_lines(path: Path) -> list[str]:
    """Return the lines that are complete: a killed process may have left half of one."""
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
