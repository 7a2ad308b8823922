"""Write what a command produces to a path of the user's, and keep what others wrote there.

A path may be a device such as /dev/stdout, a FIFO or a link: a file is written through it. An existing file is replaced
only if mixgan wrote it. The file itself shows this if it is a single one. A folder has a list of checksums, so that a
file that was changed since counts as the user's.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mixgan_cli.errors import RunError, UserError, error_summary
from mixgan_cli.runtime.io import atomic_folder, atomic_write, write_errors
from mixgan_cli.runtime.reading import MALFORMED, MAX_BYTES, inside, open_regular

log = logging.getLogger("mixgan")

LIST = ".mixgan"
"""Name of a folder's list: a line with the SHA-256 and the name of each file that mixgan wrote there."""

IsOwn = Callable[[Path], bool]
"""Returns whether mixgan wrote a file that exists, by its content."""


@contextmanager
def output_file(path: Path, is_own: IsOwn, force: bool = False, key: str = "to") -> Iterator[Path]:
    """Yield a temporary path to write to. At the end the content becomes the file, or goes through a device or FIFO.

    Args:
        path: the file. If it is a link, the file it leads to is replaced, and the link stays.
        is_own: whether an existing file is one that the command wrote.
        force: if true, replace any file.
        key: the key of the path, for messages.

    Raises:
        RunError: the file cannot be written, or is not mixgan's own.
    """
    with write_errors(f"{key}={path}"):
        stream = _open_stream(path)
        if stream is not None:
            with os.fdopen(stream, "wb") as to, tempfile.TemporaryDirectory(prefix="mixgan-") as folder:
                yield Path(folder) / "output"
                with suppress(ValueError, OSError):  # closed
                    sys.stdout.flush()
                with (Path(folder) / "output").open("rb") as written:
                    shutil.copyfileobj(written, to)
        else:
            target = Path(os.path.realpath(path)) if path.is_symlink() else path
            with atomic_write(target) as temporary:
                yield temporary
                check_output(target, is_own, force, key, temporary)


def check_output(path: Path, is_own: IsOwn, force: bool = False, key: str = "to", new: Path | None = None) -> None:
    """Check that a file can be written to a path without the loss of one that mixgan did not write.

    Args:
        path: the file, a device or a FIFO; nothing needs to exist there.
        is_own: whether an existing file is one that the command wrote.
        force: if true, any regular file may be replaced.
        key: the key of the path, for messages.
        new: the file that is to replace it. An equal one may be replaced, too.

    Raises:
        RunError: it cannot.
    """
    with write_errors(f"{key}={path}"):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if (
            force
            or not path.is_file()
            or _descriptor(path) is not None
            or (new and filecmp.cmp(path, new, shallow=False))
        ):
            return
        with suppress(*MALFORMED, UserError):
            if is_own(path):
                return
        raise _foreign(f"{key}={path}", "it")


@contextmanager
def output_folder(
    path: Path, is_older: IsOwn | None = None, force: bool = False, key: str = "to", listed: bool = True
) -> Iterator[Path]:
    """Yield a temporary folder for files and folders of files, which are moved to the folder `path` at the end.

    Args:
        path: the folder, or a link to it. It may exist, and hold other files, which stay.
        is_older: whether a file is one that mixgan wrote before it had lists; it is asked in a folder without a list.
        force: if true, replace any file.
        key: the key of the path, for messages.
        listed: if true, write the list, so that these files can be replaced by other ones.

    Raises:
        RunError: the folder cannot be written, or a file would be replaced that is not mixgan's own.
    """
    check_folder(path, key)
    with write_errors(f"{key}={path}"):
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        with atomic_folder(target) as temporary:
            yield temporary
            names = [file.relative_to(temporary) for file in sorted(temporary.rglob("*")) if file.is_file()]
            foreign = [name for name in names if not _replaceable(target, name, temporary / name, is_older, force)]
            if foreign:
                shown = ", ".join(map(str, foreign[:3])) + (", …" if len(foreign) > 3 else "")
                raise _foreign(f"{key}={path}", shown)
            if listed:
                _add_to_list(target if target.is_dir() else temporary, temporary, names)


def check_folder(path: Path, key: str) -> None:
    """Check that a path can be the folder of an output.

    Raises:
        RunError: it has no name of its own, such as / and ., or is a file, a device or a FIFO.
    """
    if path.name in ("", ".."):
        raise RunError(f"{key}={path}: not the name of a folder. Give one, so that its files are not among others")
    with write_errors(f"{key}={path}"):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def _foreign(path: str, names: str) -> RunError:
    return RunError(
        f"{path}: {names} would be replaced, but was not written by this command, or was changed since. Give another "
        "path, or force=true"
    )


def _open_stream(path: Path) -> int | None:
    """Return a descriptor to write to if the path is a device, a FIFO or an open file, such as /dev/stdout; or None.

    A block device is refused: whoever writes to it destroys a file system.
    """
    number = _descriptor(path)
    if number is not None:
        return os.dup(number)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return os.open(path, os.O_WRONLY | os.O_NOCTTY)  # waits for the other end of a FIFO
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "a block device or a socket", str(path))
    return None


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path such as /dev/stdout or /dev/fd/3 means, or None."""
    for _ in range(40):  # links
        folder = os.path.realpath(path.parent)
        if folder in (f"/proc/{os.getpid()}/fd", "/dev/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder) / path.readlink()
    return None


def _replaceable(folder: Path, name: Path, new: Path, is_older: IsOwn | None, force: bool) -> bool:
    """Return whether a file may become the one of this name in a folder.

    Raises:
        OSError: something other than a file has the name.
        RunError: its folder is a link out of the folder.
    """
    there = folder / name
    for above in reversed(name.parents[:-1]):
        if os.path.lexists(folder / above) and not (folder / above).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above}: {os.strerror(errno.ENOTDIR)}", str(folder / above))
        inside(folder / above, folder)
    if not os.path.lexists(there):
        return True
    if not there.is_symlink() and not there.is_file():
        raise OSError(errno.EINVAL, f"{name}: not a regular file", str(there))
    if force:
        return True
    if there.is_symlink():
        return False
    if filecmp.cmp(there, new, shallow=False):
        return True
    if os.path.lexists(folder / LIST):
        return _line(there, name) in _read_list(folder)
    return is_older is not None and is_older(there)


def _line(file: Path, name: Path) -> str:
    """Return a file's line in a list."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return f"{digest.hexdigest()}  {str(name).encode('unicode_escape').decode()}"


def _read_list(folder: Path) -> set[str]:
    """Return the lines of a folder's list, which may come from anyone; none if it cannot be read."""
    with suppress(OSError), open_regular(folder / LIST, max_bytes=MAX_BYTES) as file:
        return set(file.read(MAX_BYTES).decode("ascii", errors="replace").splitlines())
    return set()


def _add_to_list(folder: Path, written: Path, names: list[Path]) -> None:
    """Add files that are about to be moved to a folder to its list, or log a warning if it cannot be written."""
    known = _read_list(folder)
    lines = [line for name in names if (line := _line(written / name, name)) not in known]
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(folder / LIST, flags, 0o666), "ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        log.warning(
            "warning: %s cannot be written (%s), so that the next such command needs force=true",
            folder / LIST,
            error_summary(error),
        )
