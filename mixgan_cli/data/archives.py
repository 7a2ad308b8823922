"""Files in a folder, a zip or a tar, read by name. Nothing is ever extracted, so no name can lead out of its place."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

from mixgan_cli.errors import DataError

TARS = (".tar", ".tar.gz", ".tgz")
AHEAD = 256
"""Files read at a time, by several threads where the archive allows."""


class Archive:
    """A folder, zip or tar; `key` is what the user calls it.

    Raises:
        DataError: there is no such thing, or it is damaged.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key = root, key
        if not root.exists():
            raise DataError(f"{key}={root}: there is no such folder or zip")
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

    def read(self, name: str) -> bytes:
        """Return one file's bytes."""
        with self.open(name) as file:
            return file.read()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Give one file to read from.

        Raises:
            DataError: the archive is damaged.
        """
        with self._whole():
            if self._tar is not None:
                file = self._tar.extractfile(name)
                assert file is not None, "only files have names here"
            else:
                file = (self.root / name).open("rb") if self._zip is None else self._zip.open(name)
            with file:
                yield file

    def each(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Return (name, bytes) of these files, in this order.

        A tar is read once from front to back, for a step back would unpack all of it again, and its files are held in
        memory; of a folder or a zip, several threads read some ahead.

        Raises:
            DataError: the archive is damaged.
        """
        with self._whole():
            if self._tar is not None:
                wanted = set(names)
                found = {name: self.read(name) for name in self._tar.getnames() if name in wanted}
                yield from ((name, found[name]) for name in names)
            else:
                with ThreadPoolExecutor() as pool:
                    for first in range(0, len(names), AHEAD):
                        some = names[first : first + AHEAD]
                        yield from zip(some, pool.map(self.read, some), strict=True)

    def fingerprint(self) -> dict[str, list[int]]:
        """Return size and time of change of the archive, or of each file of the folder: what tells a changed source."""
        if self.root.is_file():
            return {self.root.name: _told(self.root)}
        return {name: _told(self.root / name) for name in self.names}

    @cached_property
    def _every(self) -> list[str]:
        with self._whole():
            if self._tar is not None:
                names = [member.name for member in self._tar if member.isfile()]
                if self.root.suffix.lower() == ".tar" and not self._ends():  # of a gzipped one gzip tells
                    raise EOFError("its end is missing")
                return names
            if self._zip is not None:
                return [name for name in self._zip.namelist() if not name.endswith("/")]
        return [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()]

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
        return tarfile.open(self.root) if self._is_tar else None

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
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

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Give one file to read from. Raises DataError where an archive is damaged."""
        part, _, inside = name.partition("/")
        with self._archives[part].open(inside) as file:
            yield file

    def each(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Return (name, bytes) of these files, in this order. Raises DataError where an archive is damaged."""
        return ((name, self.read(name)) for name in names)

    def fingerprint(self) -> dict[str, list[int]]:
        """Return size and time of change of each archive."""
        return {name: told for archive in self._archives.values() for name, told in archive.fingerprint().items()}


def _told(path: Path) -> list[int]:
    told = path.stat()
    return [told.st_size, told.st_mtime_ns]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)
