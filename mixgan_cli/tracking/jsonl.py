"""metrics.jsonl: the record of a run, a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixgan_cli.files import write_text
from mixgan_cli.tracking.tracker import RunInfo


class JsonlSink:
    """Appends records to a file. On resume, lines beyond the checkpoint are cut: they will be written again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, run: RunInfo) -> None:
        """Keep what was logged up to the image the run goes on from."""
        if self.path.is_file():
            kept = [line for line in _whole_lines(self.path) if not _comes_again(json.loads(line), run)]
            write_text(self.path, "".join(f"{line}\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")

    def record(self, record: Mapping[str, Any]) -> None:
        """Append a line."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Do nothing: the picture is in the run's folder."""

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Close the file."""
        self._file.close()


def _comes_again(record: Mapping[str, Any], run: RunInfo) -> bool:
    """Whether the resumed run will write this record anew: what lies beyond its state, and the final evaluation."""
    final_evaluation = record["nimg"] >= run.total_nimg and "img_per_second" not in record
    return record["nimg"] > run.nimg or final_evaluation


def _whole_lines(path: Path) -> list[str]:
    """Return the lines that are complete: a killed process may have left half of one."""
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
