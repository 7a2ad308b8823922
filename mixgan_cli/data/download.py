"""Downloads into the cache: checked, and whole or not there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.utils import check_integrity, download_file_from_google_drive, download_url

from mixgan_cli.data.prepared import cache_dir
from mixgan_cli.errors import DataError
from mixgan_cli.files import alone

log = logging.getLogger("mixgan")


class Remote(NamedTuple):
    """A file: its URL (or its number on Google Drive), its name here, and its MD5 where the source tells one."""

    url: str
    file: str
    md5: str | None
    on_drive: bool = False


def fetch_unless_here(title: str, root: str | None, files: Sequence[Remote], find: Callable[[], object]) -> None:
    """Download a set into the cache, unless `find` finds a copy; what it says where there is none is shown again.

    Raises:
        DataError: there is none where data.root says, or nothing can be downloaded; with the steps to take.
    """
    try:
        find()
    except DataError as missing:
        if root or not files:
            raise
        try:
            fetch_into_cache(title, files)
        except DataError as failed:
            raise DataError(f"{failed}\n{missing}") from failed


def fetch_into_cache(title: str, files: Sequence[Remote]) -> None:
    """Download what is not in the cache yet.

    A download that breaks off, or whose checksum is wrong, is not taken for the file; the same command tries again.
    Of two processes that want the same file one downloads it and the other waits.

    Raises:
        DataError: it failed; with the way to do it by hand.
    """
    for remote in files:
        path = cache_dir() / remote.file
        try:
            if not _whole(remote, path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with alone(path.with_name(f".{path.name}.lock"), f"{title}: {path.name}"):
                    if not _whole(remote, path):  # nor while we waited
                        log.info("%s: %s → %s", title, remote.url, path)
                        _download(remote, path)
        except Exception as error:  # no network, a moved page, a wrong checksum, a full disk: each means no file
            raise DataError(
                f"{title}: the download of {remote.url} failed ({type(error).__name__}: {error}). Fetch it by other "
                f"means, as {path}, or give data.root=FOLDER"
            ) from error
        log.info("%s: %s is there", title, path)


def _whole(remote: Remote, path: Path) -> bool:
    return path.is_file() and check_integrity(str(path), remote.md5)


def _download(remote: Remote, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a process that was killed
        get = download_file_from_google_drive if remote.on_drive else download_url
        get(remote.url, str(partial.parent), partial.name, remote.md5)  # raises where the checksum is wrong
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
