"""Files that are whole or absent: written to a temporary name, then renamed."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mixgan_cli.errors import RunError

log = logging.getLogger("mixgan")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end, and only if all went well, it becomes `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power cut, where the file system can say so."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def refusing(key: str) -> Iterator[None]:
    """Turn a path that cannot be written into the user's error, `key` being what they call it."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{key}: cannot be written ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """Return in words why a file could not be written."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]


@contextmanager
def alone(lock: Path, name: str) -> Iterator[None]:
    """Hold the lock, after whoever holds it now; `name` is what it is for. Raises OSError."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("%s: another process is preparing it; waiting", name)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all. Not-a-number is refused: a figure is there or it is not."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
