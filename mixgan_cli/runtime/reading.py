"""Read files that may come from anyone: of a limited size, no devices, no links out of their folder, plain values."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import yaml

from mixgan_cli.errors import RunError, UserError, error_summary
from mixgan_cli.runtime.io import atomic_write

MAX_CHARS = 2**16
"""Maximum length of a configuration that is read, in bytes. Those of runs have a few thousand."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping of plain values in a YAML file that may come from anyone.

    Nothing is resolved or called. Aliases are refused, because a few of them can expand to more than any memory.

    Raises:
        RunError: the file cannot be read, or is not a mapping of plain values.
    """
    try:
        with open_regular(path, max_bytes=MAX_CHARS) as file:
            content = yaml.load(file.read(MAX_CHARS).decode(), _Plain)
        if not isinstance(content, dict):
            raise ValueError("no keys and values")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RunError(
            f"{path}: not a configuration that mixgan wrote ({type(error).__name__}: {error_summary(error)})"
        ) from error
    return content


class _Plain(yaml.SafeLoader):
    """A loader of plain values that refuses aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def real_path(path: Path) -> Path:
    """Return a path without links. A link to itself stays: before Python 3.13, `Path.resolve` fails for it."""
    return Path(os.path.realpath(path))


def inside(path: Path, folder: Path) -> Path:
    """Return a path below a folder, and refuse links out of it, because the folder may come from anyone.

    Raises:
        RunError: the path leads out of the folder.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise RunError(f"{path}: a link that leads nowhere") from error
    if not target.is_relative_to(folder.resolve()):
        raise RunError(f"{path}: a link that leads out of the folder, to {target}. Replace it by a file or folder")
    return path


MAX_BYTES = 8 << 20
"""Largest file of a run that is read whole [bytes]."""
MALFORMED = (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""Exceptions that a file with unexpected content may cause."""


@contextmanager
def read_errors(path: Path, hint: str = "") -> Iterator[None]:
    """Turn the exceptions that unexpected content of a run's files causes into one message, with a hint if any.

    Raises:
        RunError: the content is not what mixgan writes.
    """
    try:
        yield
    except UserError:
        raise
    except MALFORMED as error:
        cause = f"{type(error).__name__}: {error_summary(error)[:200]}"
        raise RunError(
            f"{path}: not what mixgan writes, or damaged ({cause})" + (f". {hint}" if hint else "")
        ) from error


def open_regular(path: Path, mode: str = "rb", max_bytes: int | None = None) -> FileIO:
    """Open a regular file without a buffer, as `open` does. Devices, FIFOs and links to them are refused at once.

    Args:
        path: the file. It may come from anyone.
        mode: rb or ab.
        max_bytes: the largest size that is accepted [bytes]; None: any.

    Raises:
        OSError: the file cannot be opened, is not regular, or is larger.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # opening a folder fails by itself
        raise OSError(errno.EINVAL, "not a regular file", str(path))

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK, 0o666)  # does not wait for the other end of a FIFO

    file = FileIO(path, mode, opener=opener)
    size = os.fstat(file.fileno()).st_size
    if max_bytes is not None and size > max_bytes:
        file.close()
        raise OSError(errno.EFBIG, f"{size:,} bytes; at most {max_bytes:,} are read", str(path))
    return file


def copy_regular(path: Path, to: Path, folder: Path, max_bytes: int) -> None:
    """Copy a file of a folder that may come from anyone, and create the folder of the copy.

    Raises:
        RunError: a link leads out of the folder, the file is not regular, or is larger than `max_bytes`.
    """
    inside(path, folder)
    with read_errors(path), open_regular(path, max_bytes=max_bytes) as source:
        content = source.read(max_bytes)
    with atomic_write(to) as temporary:
        temporary.write_bytes(content)


def read_bytes(path: Path, folder: Path) -> bytes:
    """Return the content of a file in a folder that may come from anyone.

    Raises:
        RunError: a link leads out of the folder, or the file is not regular or larger than MAX_BYTES.
    """
    inside(path, folder)
    with read_errors(path), open_regular(path, max_bytes=MAX_BYTES) as file:
        return bytes(file.read(MAX_BYTES))


def read_text(path: Path, folder: Path) -> str:
    """Return the text of a file in a folder, as `read_bytes` does; bytes that are not UTF-8 are replaced."""
    return read_bytes(path, folder).decode("utf-8", errors="replace")


def read_json(path: Path, folder: Path, hint: str = "") -> dict[str, Any]:
    """Return the JSON object in a file of a folder, empty if there is no such file. Messages end with the hint.

    Raises:
        RunError: the file does not hold a JSON object, is nested too deeply, or see `read_bytes`.
    """
    if not path.is_file():
        return {}
    with read_errors(path, hint):
        content = json.loads(read_text(path, folder))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        _check_depth(content)
        return content


MAX_DEPTH = 32
"""Maximum nesting of a JSON file of a run; mixgan's own have five levels."""


def _check_depth(content: Any) -> None:
    """Raise ValueError if a JSON value is nested more than MAX_DEPTH levels deep."""
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for node in level
            if isinstance(node, (dict, list))
            for part in (node.values() if isinstance(node, dict) else node)
        ]
    if level:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
