"""Files in a folder, a zip or a tar, read by name. Nothing is ever extracted, so no name can lead out of its place.

An archive may come from anyone. What it holds is read within limits, whatever it claims, so that a few kilobytes which
unpack to terabytes end in one message and not in a full memory.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from mixgan_cli.errors import DataError, UserError
from mixgan_cli.runtime.device import total_memory

TARS = (".tar", ".tar.gz", ".tgz")
MOST_BYTES = 2**30
"""Of one file, unpacked, that is read as a whole: the largest, a batch of ImageNet at 32 pixels, has 0.4 GB."""
MOST_FILES = 2**21
"""In a tar: ImageNet has 1.3 million."""
MOST_HEADER = 2**20
"""Bytes of what a tar says of a file."""
MOST_DEFLATED = 1032
"""How many times deflate can make a file smaller. A zip that claims more has files that lie over one another."""
THREADS = min(32, (os.cpu_count() or 1) + 4)
AHEAD = 2**28
"""Bytes of files that are read before they are asked for."""


class Archive:
    """A folder, zip or tar; `key` is what the user calls it.

    Raises:
        DataError: there is no such thing, or it is damaged.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key = root, key
        if not root.exists():
            raise DataError(f"{key}={root}: there is no such folder or zip")
        self._is_folder = root.is_dir()
        self._is_tar = root.is_file() and root.name.lower().endswith(TARS)
        if root.is_file() and not self._is_tar and not zipfile.is_zipfile(root):
            raise DataError(f"{key}={root}: neither a folder nor a zip, or one that is truncated")

    @cached_property
    def names(self) -> list[str]:
        """The files' paths below the root, sorted."""
        return sorted(name for name in self._every if not _hidden(name))

    def find(self, name: str) -> str | None:
        """Return the path of the first file of this name (or path's end), in whatever folder it is; or None."""
        return next((path for path in self.names if f"/{path}".endswith(f"/{name}")), None)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Return one file's bytes.

        Raises:
            DataError: the archive is damaged, or the file is longer than `most`.
        """
        claimed = self._size(name)
        if claimed <= most:
            with self.open(name) as file:
                content = file.read(claimed + 1)
            if len(content) <= claimed:
                return content
        raise DataError(f"{self.root}: {name}: more than {most:,} bytes, or than it claims; no set has such a file")

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Give one file to read from.

        Raises:
            DataError: the archive is damaged.
        """
        with self._whole():
            if self._tar is not None:
                file = self._tar.extractfile(self._every[name])
                assert file is not None, "only files have names here"
            else:
                file = (self.root / name).open("rb") if self._zip is None else self._zip.open(self._every[name])
            with file:
                yield file

    def each(
        self, names: Sequence[str], use: Callable[[bytes], Any] = bytes, most: int = MOST_BYTES
    ) -> Iterator[tuple[str, Any]]:
        """Return (name, what `use` makes of its bytes) of these files, in this order. Several threads work ahead.

        A tar is read once from front to back, for a step back would unpack all of it again, and its files are held in
        memory.

        Raises:
            DataError: the archive is damaged, a file is longer than `most`, or those of a tar take too much memory.
        """
        held = self._held(names, most) if self._is_tar else None

        def work(name: str) -> Any:
            return use(self.read(name, most) if held is None else held.pop(name))

        with ThreadPoolExecutor(THREADS) as pool:
            waiting: deque[tuple[str, int, Future[Any]]] = deque()
            for name in names:
                size = self._size(name)
                while waiting and (len(waiting) == THREADS or size + sum(other for _, other, _ in waiting) > AHEAD):
                    first, _, made = waiting.popleft()
                    yield first, made.result()
                waiting.append((name, size, pool.submit(work, name)))
            while waiting:
                first, _, made = waiting.popleft()
                yield first, made.result()

    def fingerprint(self) -> dict[str, list[int]]:
        """Return size and time of change of the archive, or of each file of the folder: what tells a changed source."""
        if self.root.is_file():
            return {self.root.name: _told(self.root)}
        return {name: _told(self.root / name) for name in self.names}

    def _size(self, name: str) -> int:
        """Return how many bytes a file has, or claims to have."""
        if self._is_folder:
            with self._whole():
                return (self.root / name).stat().st_size
        return self._every[name].size if self._is_tar else self._every[name].file_size

    def _held(self, names: Sequence[str], most: int) -> dict[str, bytes]:
        """Return files of a tar, read in the order in which they stand there."""
        wanted = set(names)
        needed, there = sum(map(self._size, wanted)), total_memory() / 2
        if needed > there:
            raise DataError(
                f"{self.root}: its files take {needed / 2**30:.1f} GiB, and half of the memory is "
                f"{there / 2**30:.1f}. Unpack it, or make a zip of it"
            )
        return {name: self.read(name, most) for name in self._every if name in wanted}

    @cached_property
    def _every(self) -> dict[str, Any]:
        """What the archive says of each file, by its name; of a folder's, nothing."""
        with self._whole():
            if self._tar is not None:
                found = {}
                for count, member in enumerate(self._tar):
                    if count == MOST_FILES or member.size < 0:  # a step back, and it would never end
                        raise DataError(f"{self.root}: more than {MOST_FILES:,} files, or one of a size below zero")
                    if member.isfile():
                        found[member.name] = member
                if self.root.suffix.lower() == ".tar" and not self._ends():  # of a gzipped one gzip tells
                    raise EOFError("its end is missing")
                return found
            if self._zip is not None:
                entries = self._zip.infolist()
                if sum(entry.file_size for entry in entries) > MOST_DEFLATED * self.root.stat().st_size:
                    raise DataError(f"{self.root}: its files claim to be more than can be in a zip of this size")
                return {entry.filename: entry for entry in entries if not entry.is_dir()}
        return {path.relative_to(self.root).as_posix(): None for path in self.root.rglob("*") if path.is_file()}

    def _ends(self) -> bool:
        """Whether after the last file there is the block of zeros that ends a tar: cut before it, it looks whole."""
        assert self._tar is not None
        with self.root.open("rb") as file:
            file.seek(self._tar.offset)
            return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return zipfile.ZipFile(self.root) if self.root.is_file() and not self._is_tar else None

    @cached_property
    def _tar(self) -> tarfile.TarFile | None:
        return tarfile.open(self.root, tarinfo=_Header) if self._is_tar else None

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # whatever a reader stumbles over, it is the file that is wrong
            raise DataError(
                f"{self.root}: truncated or damaged ({type(error).__name__}: {error}). Delete it and fetch it again"
            ) from error


class Together(Archive):
    """Several archives as one, for a set that comes in parts: the names of each begin with its own."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.root, self.key = archives[0].root.parent, archives[0].key
        self._archives = {archive.root.name: archive for archive in archives}

    @cached_property
    def names(self) -> list[str]:
        """The files' paths, sorted."""
        return sorted(f"{part}/{name}" for part, archive in self._archives.items() for name in archive.names)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Return one file's bytes. Raises DataError where an archive is damaged, or the file longer than `most`."""
        part, _, inside = name.partition("/")
        return self._archives[part].read(inside, most)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Give one file to read from. Raises DataError where an archive is damaged."""
        part, _, inside = name.partition("/")
        with self._archives[part].open(inside) as file:
            yield file

    def each(
        self, names: Sequence[str], use: Callable[[bytes], Any] = bytes, most: int = MOST_BYTES
    ) -> Iterator[tuple[str, Any]]:
        """Return (name, what `use` makes of its bytes) of these files, one after the other."""
        return ((name, use(self.read(name, most))) for name in names)

    def fingerprint(self) -> dict[str, list[int]]:
        """Return size and time of change of each archive."""
        return {name: told for archive in self._archives.values() for name, told in archive.fingerprint().items()}


class _Header(tarfile.TarInfo):
    """A header in a tar. What tells of the next file, a long name, say, is read as a whole, so it has to be short."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if header.type == tarfile.GNUTYPE_SPARSE or (not header.isfile() and not 0 <= header.size <= MOST_HEADER):
            raise tarfile.ReadError(f"a sparse file, or a header of {header.size:,} bytes")
        return header

    def _proc_gnusparse_10(self, *arguments: Any) -> None:
        raise tarfile.ReadError("a sparse file")  # the map of its holes may be as long as it likes


def load_npy(file: Path | IO[bytes], most: int) -> Any:
    """Return the array of a .npy file, or the arrays of an .npz: each is read, and unpacked, when it is asked for.

    Raises:
        ValueError: an array claims more than `most` bytes. And what numpy raises where the file is damaged.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as entries:
            claimed = max((entry.file_size for entry in entries.infolist()), default=0)
    else:
        claimed = file.stat().st_size if isinstance(file, Path) else 0
    if claimed > most:
        raise ValueError(f"an array of {claimed / 2**30:,.1f} GiB, and there should be at most {most / 2**30:.1f}")
    if not isinstance(file, Path):
        file.seek(0)
    return np.load(file, allow_pickle=False)


def _told(path: Path) -> list[int]:
    told = path.stat()
    return [told.st_size, told.st_mtime_ns]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)
