"""What a run left in its folder, read with care: the folder may come from anyone, or be copied by half."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixgan_cli.errors import RunError, UserError
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import error_summary, inside

LARGEST = 8 << 20
"""Bytes of a file that is taken in."""
NAME = re.compile(r"\w[\w.+-]{0,99}")
"""Of a metric: files are named by it."""
ODD = (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What goes wrong where a file holds something else than expected."""


@dataclass(frozen=True)
class Results:
    """results.json: figures are finite numbers, or lists and tables of them."""

    run: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Say of what goes wrong inside that the run's files are not what mixgan writes.

    Raises:
        RunError: something went wrong.
    """
    try:
        yield
    except UserError:
        raise
    except ODD as error:
        told = f"{type(error).__name__}: {error_summary(error)[:200]}"
        raise RunError(f"{path}: not what mixgan writes, or damaged ({told})") from error


def read_bytes(path: Path, folder: Path) -> bytes:
    """Return a file of a folder; none that a link leads out of it, nor a larger one than mixgan writes.

    Raises:
        RunError: it is such a file.
    """
    inside(path, folder)
    with as_written(path), path.open("rb") as file:
        content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
    return content


def read_text(path: Path, folder: Path) -> str:
    """Return a file of a folder as text, as `read_bytes` does, whatever is in it."""
    return read_bytes(path, folder).decode("utf-8", errors="replace")


def read_json(path: Path, folder: Path) -> dict[str, Any]:
    """Return a JSON object of a folder, empty where there is no such file.

    Raises:
        RunError: it holds something else.
    """
    if not path.is_file():
        return {}
    with as_written(path):
        content = json.loads(read_text(path, folder))
        if not isinstance(content, dict):
            raise ValueError("no object")
    return content


def read_results(folder: RunFolder) -> Results:
    """Return what a run measured; nothing where it has not yet.

    Raises:
        RunError: results.json is damaged.
    """
    content = read_json(folder.results, folder.path)
    with as_written(folder.results):
        parts = {key: dict(content.get(key) or {}) for key in ("run", "protocol", "metrics", "unavailable")}
        figures = {name: value for name, value in parts["metrics"].items() if NAME.fullmatch(name) and _finite(value)}
        unavailable = {str(name)[:100]: str(why)[:2000] for name, why in parts["unavailable"].items()}
    return Results(parts["run"], parts["protocol"], figures, unavailable)


def _finite(value: Any, depth: int = 0) -> bool:
    """Whether it is a finite number, or a list or a table of them."""
    if isinstance(value, list):
        return depth < 2 and 0 < len(value) <= 2**12 and all(_finite(part, depth + 1) for part in value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < 1e300 and math.isfinite(value)
