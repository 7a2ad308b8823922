"""Read files from a folder, a zip or a tar by name, without extracting anything.

An archive may come from anyone, so its sizes are limited whatever it claims: a few kilobytes that would unpack to
terabytes raise an error and do not fill the memory.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from mixgan_cli.data.cache import replace_hint
from mixgan_cli.data.fingerprint import fingerprint
from mixgan_cli.errors import DataError, UserError
from mixgan_cli.runtime.device import total_memory
from mixgan_cli.runtime.reading import real_path

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
MAX_FILE_BYTES = 2**30
"""Largest file that is read as a whole, unpacked. The largest real one, a batch of ImageNet32, has 0.4 GB."""
MAX_TAR_FILES = 2**21
"""Maximum number of files in a tar; ImageNet has 1.3 million."""
MAX_TAR_HEADER = 2**20
"""Maximum size of one header in a tar [bytes]."""
MAX_DEFLATE_RATIO = 1032
"""The highest compression ratio of deflate. A zip that claims more has overlapping entries."""
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
"""The compression methods that the zipfile module can read."""
THREADS = min(32, (os.cpu_count() or 1) + 4)
READ_AHEAD = 2**28
"""Maximum size of the files that are read ahead [bytes]."""


@contextmanager
def permission_errors() -> Iterator[None]:
    """Turn a PermissionError into an error that names the file or folder, so that it is not left out.

    Raises:
        DataError: the body raised a PermissionError.
    """
    try:
        yield
    except PermissionError as error:
        raise DataError(
            f"{error.filename}: cannot be read ({error.strerror}). Allow it, or move it elsewhere"
        ) from error


@contextmanager
def damage_errors(root: Path, file: str = "") -> Iterator[None]:
    """Turn any exception of a reader into an error that calls an archive, or a file in it, damaged.

    Raises:
        DataError: the body raised an exception. A UserError passes unchanged.
    """
    try:
        with permission_errors():
            yield
    except UserError:
        raise
    except Exception as error:  # readers of damaged files raise many kinds
        what, cause = f"{root}: {file}" if file else f"{root}", f"{type(error).__name__}: {error}"
        raise DataError(f"{what}: truncated or damaged ({cause}). {replace_hint(root)}") from error


class Archive:
    """A folder, zip or tar at `root`; error messages name the configuration key it came from, `key`.

    Raises:
        DataError: it does not exist, is of another kind, or is damaged.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key = root, key
        self._broken_links = 0
        with permission_errors():
            if not root.exists():
                raise DataError(f"{key}={root}: there is no such folder or zip")
        self._is_folder = root.is_dir()
        self._is_tar = root.is_file() and root.name.lower().endswith(TAR_SUFFIXES)
        if root.is_file() and not self._is_tar and not zipfile.is_zipfile(root):
            raise DataError(f"{key}={root}: neither a folder nor a zip, or a truncated zip")

    @cached_property
    def names(self) -> list[str]:
        """The files' paths below the root, sorted, without hidden ones."""
        return sorted(name for name in self._entries if not _hidden(name))

    def find(self, name: str) -> str | None:
        """Return the path of the first file whose path ends with `name`, in any folder; None if there is none."""
        return next((path for path in self.names if f"/{path}".endswith(f"/{name}")), None)

    def read(self, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Return the bytes of one file.

        Raises:
            DataError: the archive is damaged, or the file is longer than `max_bytes`.
        """
        claimed = self._size(name)
        if claimed <= max_bytes:
            with self.open(name) as file:
                content = file.read(claimed + 1)
            if len(content) <= claimed:
                return content
        raise DataError(f"{self.root}: {name}: more than {max_bytes:,} bytes, or more than the archive claims")

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open one file for reading.

        Raises:
            DataError: the archive is damaged.
        """
        with damage_errors(self.root):
            if self._tar is not None:
                file = self._tar.extractfile(self._entries[name])
                assert file is not None, "only regular files are listed"
            else:
                file = (self.root / name).open("rb") if self._zip is None else self._zip.open(self._entries[name])
            with file:
                yield file

    def read_each(
        self, names: Sequence[str], decode: Callable[[bytes], Any] = bytes, max_bytes: int = MAX_FILE_BYTES
    ) -> Iterator[tuple[str, Any]]:
        """Yield (name, decode(content)) for each file, in the order of `names`. Threads read and decode ahead.

        A tar is read once, from front to back, into memory: going back would unpack it again.

        Raises:
            DataError: the archive is damaged, a file is longer than `max_bytes`, or a tar does not fit in memory.
        """
        buffered = self._read_tar(names, max_bytes) if self._is_tar else None

        def work(name: str) -> Any:
            return decode(self.read(name, max_bytes) if buffered is None else buffered.pop(name))

        with ThreadPoolExecutor(THREADS) as pool:
            waiting: deque[tuple[str, int, Future[Any]]] = deque()
            for name in names:
                size = self._size(name)
                while waiting and (len(waiting) == THREADS or size + sum(n for _, n, _ in waiting) > READ_AHEAD):
                    first, _, result = waiting.popleft()
                    yield first, result.result()
                waiting.append((name, size, pool.submit(work, name)))
            while waiting:
                first, _, result = waiting.popleft()
                yield first, result.result()

    def fingerprint(self) -> str:
        """Return a hash of the content: of the archive, or of the names and contents of the folder's files."""
        with permission_errors():
            if self.root.is_file():
                return fingerprint({"": self.root})
            return fingerprint({name: self.root / name for name in self.names}, MAX_FILE_BYTES)  # no larger one is read

    def left_out(self, used: Sequence[str]) -> str:
        """Return in words how many files are not among those used: "5 files (3 .txt, 2 hidden)"; empty if none."""
        rest = self._entries.keys() - set(used)
        kinds = Counter("hidden" if _hidden(name) else Path(name).suffix.lower() or "no suffix" for name in rest)
        kinds["broken links"] = self._broken_links
        most = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:5]  # in the same order in each process
        several = ", ".join(f"{count:,} {kind}" for kind, count in most if count)
        return f"{kinds.total():,} files ({several}{', …' if len(+kinds) > 5 else ''})" if several else ""

    def _size(self, name: str) -> int:
        """Return the size of a file in bytes, as the archive claims it."""
        if self._is_folder:
            with damage_errors(self.root):
                return (self.root / name).stat().st_size
        return self._entries[name].size if self._is_tar else self._entries[name].file_size

    def _read_tar(self, names: Sequence[str], max_bytes: int) -> dict[str, bytes]:
        """Return the contents of files of a tar, read in the order in which the tar has them."""
        wanted = set(names)
        needed, limit = sum(map(self._size, wanted)), total_memory() / 2
        if needed > limit:
            raise DataError(
                f"{self.root}: its files take {needed / 2**30:.1f} GiB, and half of the memory is "
                f"{limit / 2**30:.1f} GiB. Unpack it, or convert it to a zip"
            )
        return {name: self.read(name, max_bytes) for name in self._entries if name in wanted}

    @cached_property
    def _entries(self) -> dict[str, Any]:
        """{name: the archive's record of the file}; of a folder, {name: None}."""
        with damage_errors(self.root):
            if self._tar is not None:
                members: dict[str, tarfile.TarInfo] = {}
                links: list[tarfile.TarInfo] = []
                for count, member in enumerate(self._tar):
                    if count == MAX_TAR_FILES or member.size < 0:  # a negative size would go back, and loop forever
                        raise DataError(f"{self.root}: more than {MAX_TAR_FILES:,} files, or one of a size below zero")
                    if member.isfile():
                        members[member.name] = member
                    elif member.islnk() or member.issym():
                        links.append(member)
                if self.root.suffix.lower() == ".tar" and not self._has_end():  # gzip checks its own end
                    raise EOFError("its end is missing")
                named = {os.path.normpath(name): member for name, member in members.items()}
                for link in links:  # hard links name a path from the root of the tar, others one from their own folder
                    folder = Path() if link.islnk() else Path(link.name).parent
                    if target := named.get(os.path.normpath(folder / link.linkname)):
                        members[link.name] = target
                    else:
                        self._broken_links += 1
                return members
            if self._zip is not None:
                entries = self._zip.infolist()
                if sum(entry.file_size for entry in entries) > MAX_DEFLATE_RATIO * self.root.stat().st_size:
                    raise DataError(f"{self.root}: its files claim to be more than can be in a zip of this size")
                if reason := why_unreadable(entries):
                    raise DataError(f"{self.root}: {reason}. Unpack it, or pack it again")
                # some programs write backslashes between folders
                return {entry.filename.replace("\\", "/"): entry for entry in entries if not entry.is_dir()}
            return dict.fromkeys(self._walk(self.root, frozenset()))

    def _walk(self, folder: Path, above: frozenset[Path]) -> Iterator[str]:
        """Yield the paths of the files below a folder. Links to folders are followed, except to one above."""
        real = real_path(folder)
        if real in above:
            return
        for path in folder.iterdir():
            if path.is_dir():
                yield from self._walk(path, above | {real})
            elif path.is_file():
                yield path.relative_to(self.root).as_posix()
            elif path.is_symlink():
                self._broken_links += 1

    def _has_end(self) -> bool:
        """Return whether the tar ends with a block of zeros. One that is cut between two files does not."""
        assert self._tar is not None
        with self.root.open("rb") as file:
            file.seek(self._tar.offset)
            return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return zipfile.ZipFile(self.root) if self.root.is_file() and not self._is_tar else None

    @cached_property
    def _tar(self) -> tarfile.TarFile | None:
        return tarfile.open(self.root, tarinfo=_CheckedHeader) if self._is_tar else None


class MultiArchive(Archive):
    """Several archives, none of them a tar, read as one. The name of each file starts with the name of its archive."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.root, self.key = archives[0].root.parent, archives[0].key
        self._is_tar = False
        self._archives = {archive.root.name: archive for archive in archives}

    @cached_property
    def names(self) -> list[str]:
        """The files' paths, sorted."""
        return sorted(f"{part}/{name}" for part, archive in self._archives.items() for name in archive.names)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open one file for reading. Raises DataError if its archive is damaged."""
        part, _, inner = name.partition("/")
        with self._archives[part].open(inner) as file:
            yield file

    def fingerprint(self) -> str:
        """Return a hash of the contents of the archives."""
        return "-".join(archive.fingerprint() for archive in self._archives.values())

    def _size(self, name: str) -> int:
        part, _, inner = name.partition("/")
        return self._archives[part]._size(inner)


class _CheckedHeader(tarfile.TarInfo):
    """A tar header of limited size: tarfile reads long names and other extensions as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> _CheckedHeader:
        header = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if header.type == tarfile.GNUTYPE_SPARSE or (not header.isfile() and not 0 <= header.size <= MAX_TAR_HEADER):
            raise tarfile.ReadError(f"a sparse file, or a header of {header.size:,} bytes")
        return header

    def _proc_gnusparse_10(self, *arguments: Any) -> None:
        raise tarfile.ReadError("a sparse file")  # the size of its map is not limited


def why_unreadable(entries: Sequence[zipfile.ZipInfo]) -> str | None:
    """Return why files of an intact zip cannot be read, or None."""
    for entry in entries:
        if entry.flag_bits & 1:
            return f"{entry.filename} is encrypted with a password"
        if entry.compress_type not in ZIP_METHODS:
            method = zipfile.compressor_names.get(entry.compress_type, entry.compress_type)  # type: ignore[attr-defined]
            return f"{entry.filename} is compressed by the method {method!r}, which Python cannot read"
    return None


def load_npy(file: Path | IO[bytes], max_bytes: int) -> Any:
    """Return the array of a .npy file, or a lazy mapping of the arrays of an .npz file.

    Raises:
        ValueError: an array claims more than `max_bytes`, or cannot be unpacked. A damaged file raises numpy's own
            errors.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as entries:
            claimed = max((entry.file_size for entry in entries.infolist()), default=0)
            if reason := why_unreadable(entries.infolist()):
                raise ValueError(reason)
    else:
        claimed = file.stat().st_size if isinstance(file, Path) else 0
    if claimed > max_bytes:
        raise ValueError(f"an array of {claimed / 2**30:,.1f} GiB; the limit is {max_bytes / 2**30:.1f} GiB")
    if not isinstance(file, Path):
        file.seek(0)
    return np.load(file, allow_pickle=False)


def _hidden(name: str) -> bool:
    """Return True for a file that is hidden, or that macOS or a NAS added: thumbnails and attributes."""
    return any(part.startswith((".", "__MACOSX", "@eaDir", "#recycle")) for part in Path(name).parts)
