"""Downloads into the cache: checked, and whole or not there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.utils import check_integrity, download_file_from_google_drive, download_url

from mixgan_cli.data.prepared import cache_dir
from mixgan_cli.errors import DataError

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

    Raises:
        DataError: it failed; with the way to do it by hand.
    """
    for remote in files:
        path = cache_dir() / remote.file
        if path.is_file() and check_integrity(str(path), remote.md5):
            log.info("%s: %s is there already", title, path)
            continue
        log.info("%s: %s → %s", title, remote.url, path)
        _download(title, remote, path)


def _download(title: str, remote: Remote, path: Path) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        get = download_file_from_google_drive if remote.on_drive else download_url
        get(remote.url, str(partial.parent), partial.name, remote.md5)  # raises where the checksum is wrong
        partial.replace(path)
    except Exception as error:  # no network, a moved page, a wrong checksum, a full disk: each means no file
        raise DataError(
            f"{title}: the download of {remote.url} failed ({type(error).__name__}: {error}). Fetch it by other means, "
            f"as {path}, or give data.root=FOLDER"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
