"""Published data sets: find a local copy in a known layout, or download one into the cache."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Generic, NamedTuple, TypeVar

from torchvision.datasets.utils import check_integrity, download_file_from_google_drive, download_url

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import cache_dir
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.io import environment_path, file_lock

log = logging.getLogger("mixgan")
Layout = TypeVar("Layout")


class RemoteFile(NamedTuple):
    """A file to download: its URL (or Google Drive id), its path below the cache, and its published MD5 or None."""

    url: str
    file: str
    md5: str | None
    on_drive: bool = False


class PublishedSet(ABC, Generic[Layout]):
    """A data set that others published. A subclass says where copies are, and recognises their layout."""

    title: ClassVar[str]
    known_names: ClassVar[Sequence[str]]
    """Names under which folders and archives of the set are known, in the order in which they are tried."""
    remote: ClassVar[Sequence[RemoteFile]] = ()
    """The files of a download; empty if the set can only be fetched by hand."""
    download_hint: ClassVar[str]
    """How to get a copy, as the last sentence of an error message."""

    root: str | None
    """data.root: a copy, or a folder that contains one. None: $MIXGAN_DATA is searched, then the cache."""

    @abstractmethod
    def recognise(self, archive: Archive) -> Layout | None:
        """Return where the archive keeps the set's files; None if it does not hold this set."""

    def locate(self) -> tuple[Archive, Layout]:
        """Return the first archive that holds the set, and its layout.

        Raises:
            DataError: there is no copy.
        """
        if self.root and not Path(self.root).exists():
            raise DataError(f"data.root={self.root}: there is no such folder or archive")
        for path in self._candidates():
            archive = Archive(path, "data.root")
            layout = self.recognise(archive)
            if layout is not None:
                return archive, layout
        if self.root:
            problem = f"data.root={self.root}: no {self.title} there"
        else:
            problem = f"{self.title}: no local copy in {', '.join(map(str, self._places()))}"
        raise DataError(f"{problem} (looked for {', '.join(self.known_names)}). {self.download_hint}")

    def fetch(self) -> None:
        """Download the set into the cache, unless there is a copy.

        Raises:
            DataError: there is no copy at data.root, or the download failed; with the steps to take.
        """
        try:
            self.locate()
        except DataError as missing:
            if self.root or not self.remote:
                raise
            try:
                download(self.title, self.remote)
            except DataError as failed:
                raise DataError(f"{failed}\n{missing}") from failed

    def _places(self) -> list[Path]:
        if self.root:
            return [Path(self.root)]
        return [place for place in (environment_path("MIXGAN_DATA"), cache_dir()) if place]

    def _candidates(self) -> Iterator[Path]:
        for place in self._places():
            if place.is_file():
                yield place
                continue
            yield from (place / name for name in self.known_names if (place / name).exists())
            if self.root and place.is_dir():
                yield place


def download(title: str, files: Sequence[RemoteFile]) -> None:
    """Download the files that are not in the cache yet.

    An interrupted download, or one with a wrong checksum, leaves nothing behind. If several processes want the same
    file, one of them downloads it and the others wait.

    Raises:
        DataError: a download failed; with the steps to take.
    """
    for remote in files:
        path = cache_dir() / remote.file
        try:
            if not _intact(remote, path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with file_lock(path.with_name(f".{path.name}.lock"), f"{title}: {path.name}"):
                    if not _intact(remote, path):  # another process may have downloaded it meanwhile
                        log.info("%s: %s → %s", title, remote.url, path)
                        _download(remote, path)
        except Exception as error:  # no network, a moved page, a wrong checksum, a full disk
            raise DataError(
                f"{title}: the download of {remote.url} failed ({type(error).__name__}: {error}). Download it by other "
                f"means to {path}, or give data.root=FOLDER"
            ) from error
        log.info("%s: found %s", title, path)


def _intact(remote: RemoteFile, path: Path) -> bool:
    return path.is_file() and check_integrity(str(path), remote.md5)


def _download(remote: RemoteFile, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a process that was killed
        get = download_file_from_google_drive if remote.on_drive else download_url
        get(remote.url, str(partial.parent), partial.name, remote.md5)  # raises if the checksum is wrong
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
