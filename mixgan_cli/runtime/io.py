"""Write files atomically (to a temporary name, then renamed), and read untrusted files safely."""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import logging
import os
import shutil
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from mixgan_cli.config.values import expand_home
from mixgan_cli.errors import ConfigError, RunError, error_summary

log = logging.getLogger("mixgan")


def environment_path(variable: str) -> Path | None:
    """Return the path in an environment variable, ~ being the home folder; None if it is not set or empty."""
    value = os.environ.get(variable, "").strip()
    return Path(expand_home(value)) if value else None


def environment_number(variable: str, default: int) -> int:
    """Return the number in an environment variable, or the default if it is not set or empty.

    Raises:
        ConfigError: it is not a whole number of at least 0.
    """
    value = os.environ.get(variable, "").strip()
    if value and not value.isdecimal():
        raise ConfigError(f"${variable}={value}: must be a whole number. Set it to one, or unset it")
    return int(value) if value else default


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` at the end if nothing was raised.

    A file that is replaced keeps its mode.

    Raises:
        OSError: the file cannot be written, also if a library (torch, matplotlib) hides this behind its own error; or
            `path` is a device or a FIFO, which would be replaced by a file.
    """
    _refuse_nodes(path)
    with _temporary(path) as temporary:
        try:
            yield temporary
        except (RuntimeError, ValueError, zlib.error) as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        keep_mode(path, temporary)
        temporary.replace(path)
        _sync_folder(path.parent)


def _refuse_nodes(path: Path) -> None:
    """Raise OSError if a path is neither a file, a folder nor a link, and something is there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EINVAL, "not a regular file", str(path))


def keep_mode(old: Path, new: Path) -> None:
    """Give a file the mode of the one that it is about to replace, if there is one."""
    with suppress(FileNotFoundError):
        mode = old.lstat().st_mode
        if stat.S_ISREG(mode):
            new.chmod(stat.S_IMODE(mode))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder for files that belong together, and rename it to `path` if nothing was raised.

    If there is a folder `path`, it and its other files remain: its files of the same names are removed before the new
    ones are moved to it, also those in folders. So a process that is killed never leaves an old file next to a new one.
    A file that is replaced keeps its mode.
    """
    exists = path.is_dir()
    with _temporary(path / "files" if exists else path) as temporary:
        temporary.mkdir()
        yield temporary
        if exists:
            files = {file: path / file.relative_to(temporary) for file in temporary.rglob("*") if file.is_file()}
            for file, there in files.items():
                keep_mode(there, file)
                there.unlink(missing_ok=True)
            folders = {there.parent for there in files.values()}
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(folder)
            for file, there in files.items():
                file.replace(there)
            for folder in folders:
                _sync_folder(folder)
        else:
            temporary.replace(path)
            _sync_folder(path.parent)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield a path next to `path` for this process, where nothing exists, and remove what exists there at the end."""
    if not path.name:  # "/" or "."
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, glob.escape(path.name))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)  # an old file, or a link that someone created
    try:
        yield temporary
    finally:
        _remove(temporary)


LEFTOVER_SECONDS = 3600.0
"""A temporary file to which nothing was written for this time is what a killed process left."""


def remove_leftovers(folder: Path, names: str = "*", seconds: float = LEFTOVER_SECONDS) -> None:
    """Remove what killed processes left in a folder: temporary files to which nothing was written for this time [s].

    Args:
        folder: the folder.
        names: remove only the temporary files of the files whose names match this pattern.
        seconds: the time; 0 if no other process writes to the folder.
    """
    for temporary in folder.glob(f".{names}.[0-9]*.tmp"):
        with suppress(OSError):  # another process has removed it
            if time.time() - temporary.lstat().st_mtime >= seconds:
                _remove(temporary)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Sync a folder so that a new name survives a power cut, if the file system supports it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def write_errors(key: str) -> Iterator[None]:
    """Turn an OSError while writing into an error that names `key`, the path's key in the configuration.

    Raises:
        RunError: the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{key}: cannot be written ({error_summary(error)})") from error


@contextmanager
def file_lock(lock: Path, name: str) -> Iterator[None]:
    """Hold an exclusive lock on a file, waiting for other processes; the log calls it `name`. Raises OSError."""
    with lock.open("w") as file:
        if not try_lock(file):
            log.info("%s: another process is preparing it; waiting", name)
            try_lock(file, wait=True)
        yield


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems without locks."""


def try_lock(file: IO[Any], shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed, and return whether it was possible: no other process has locked it.

    On a file system without locks, return True, and log a warning if the lock was to be exclusive.

    Args:
        file: the file.
        shared: whether others may hold a shared lock, too.
        wait: wait until no other process has locked it.
    """
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, mode if wait else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        if not shared:
            _warn_without_locks(Path(file.name).parent, error.strerror)
    return True


@cache
def _warn_without_locks(folder: Path, reason: str) -> None:
    log.warning(
        "warning: %s: this file system has no locks (%s). Do not start the same command twice at a time", folder, reason
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Bytes of file names that are not text are escaped."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: a number is not finite. Such values must be left out instead.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
