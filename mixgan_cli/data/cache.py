"""The cache of downloaded and prepared data sets, and where local copies are looked for."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.utils import check_integrity, download_file_from_google_drive, download_url
from tqdm import tqdm

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.io import file_lock, write_json


def cache_dir() -> Path:
    """Return the folder for downloads and prepared sets: $MIXGAN_CACHE, or ~/.cache/mixgan."""
    return Path(os.environ.get("MIXGAN_CACHE", Path.home() / ".cache" / "mixgan"))


class Block(NamedTuple):
    """Some images uint8 [n, C, H, W], and their labels [n] int64 or None."""

    images_NCHW: Tensor
    labels_N: Tensor | None


@dataclass(frozen=True)
class Part:
    """One part of a set, its training images, say: how to read it block by block, and what is done to it, in words."""

    blocks: Callable[[], Iterator[Block]]
    preprocessing: str
    total: int | None = None
    """How many images, where that is known before."""


def prepared(name: str, recipe: Mapping[str, Any], parts: Mapping[str, Part]) -> dict[str, Packed]:
    """Return each part of a set from the cache; where it is not there yet, prepare it.

    Args:
        name: of the set.
        recipe: all that decides the result: the source files (see `Archive.fingerprint`), size, crop. Its hash names
            the cache.
        parts: by name.

    Raises:
        DataError: the source is damaged, or the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_dir() / "prepared" / f"{name}-{key}"
    try:
        if not _whole(folder):  # what is there is read without a lock: the cache may be another's
            folder.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(folder.with_name(f"{folder.name}.lock"), name):
                if not _whole(folder):  # nor while we waited
                    _prepare(folder, name, recipe, parts)
    except OSError as error:
        raise DataError(
            f"{folder}: the prepared set cannot be written ({error.strerror}). Make room, or give $MIXGAN_CACHE a "
            "folder that has it; nothing half-written is kept"
        ) from error
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return {part: _mapped(folder, part, about["parts"][part]) for part in parts}


def _prepare(folder: Path, name: str, recipe: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # not whole
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir()
    try:
        about = {part: _write(temporary, f"{name} {part}", part, each) for part, each in parts.items()}
        write_json(temporary / "about.json", {"recipe": recipe, "parts": about})
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, title: str, part: str, source: Part) -> dict[str, Any]:
    """Write one part's images and labels, and say what `_mapped` needs to know."""
    shape: tuple[int, ...] | None = None
    count, labelled = 0, 0
    with (
        _synced(folder / f"{part}.images") as images,
        _synced(folder / f"{part}.labels") as labels,
        tqdm(desc=f"preparing {title}", unit="img", total=source.total, leave=False) as progress,
    ):
        for block in source.blocks():
            shape = tuple(block.images_NCHW.shape[1:])
            images.write(block.images_NCHW.contiguous().numpy().data)
            if block.labels_N is not None:
                labels.write(block.labels_N.contiguous().numpy().data)
                labelled += len(block.labels_N)
            count += len(block.images_NCHW)
            progress.update(len(block.images_NCHW))
    if shape is None:
        raise DataError(f"{title}: no images")
    about = {"shape": [count, *shape], "labelled": labelled == count, "preprocessing": source.preprocessing}
    return {**about, "checksum": _mapped(folder, part, about).checksum}


def _mapped(folder: Path, part: str, about: Mapping[str, Any]) -> Packed:
    """Return a part without reading it: the system reads what is looked at."""

    def array(kind: str, dtype: type, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.memmap(folder / f"{part}.{kind}", dtype, mode="c", shape=shape))

    n = about["shape"][0]
    labels = array("labels", np.int64, (n,)) if about["labelled"] else None
    return Packed(array("images", np.uint8, tuple(about["shape"])), labels, about["preprocessing"])


def _whole(folder: Path) -> bool:
    """Whether all that about.json speaks of is there, byte for byte in number."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        return all(
            (folder / f"{part}.images").stat().st_size == np.prod(told["shape"])
            and (folder / f"{part}.labels").stat().st_size == 8 * told["shape"][0] * told["labelled"]
            for part, told in about["parts"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


Layout = TypeVar("Layout")
VARIABLE = "MIXGAN_DATA"


def local_copy(
    title: str, root: str | None, usual: Iterable[str], recognise: Callable[[Archive], Layout | None], way_out: str
) -> tuple[Archive, Layout]:
    """Return the first folder or archive that holds the set, and what it was recognised as.

    Args:
        title: of the set.
        root: data.root: the copy itself, or a folder with it; None for $MIXGAN_DATA, then the cache.
        usual: names of folders and archives in which the set comes, below those.
        recognise: what is in an archive, or None.
        way_out: what to do where there is none.

    Raises:
        DataError: there is none.
    """
    usual = tuple(usual)
    places = _places(root)
    if root and not Path(root).exists():
        raise DataError(f"data.root={root}: there is no such folder or archive")
    for path in _candidates(places, usual, itself=root is not None):
        archive = Archive(path, "data.root")
        layout = recognise(archive)
        if layout is not None:
            return archive, layout
    named = (
        f"data.root={root}: no {title} there" if root else f"{title}: no local copy in {', '.join(map(str, places))}"
    )
    raise DataError(f"{named} (looked for {', '.join(usual)}). {way_out}")


def looked_through(root: str | None, usual: Iterable[str]) -> list[Path]:
    """Return the folders in which a copy is looked for, for a set that comes in several files."""
    folders = (folder for place in _places(root) for folder in (place, *(place / name for name in usual)))
    return [folder for folder in folders if folder.is_dir()]


def _places(root: str | None) -> list[Path]:
    return [Path(root)] if root else [Path(p) for p in (os.environ.get(VARIABLE), cache_dir()) if p]


def _candidates(places: Iterable[Path], usual: tuple[str, ...], itself: bool) -> Iterator[Path]:
    for place in places:
        if place.is_file():
            yield place
            continue
        yield from (place / name for name in usual if (place / name).exists())
        if itself and place.is_dir():
            yield place


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
            if not _intact(remote, path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with file_lock(path.with_name(f".{path.name}.lock"), f"{title}: {path.name}"):
                    if not _intact(remote, path):  # nor while we waited
                        log.info("%s: %s → %s", title, remote.url, path)
                        _download(remote, path)
        except Exception as error:  # no network, a moved page, a wrong checksum, a full disk: each means no file
            raise DataError(
                f"{title}: the download of {remote.url} failed ({type(error).__name__}: {error}). Fetch it by other "
                f"means, as {path}, or give data.root=FOLDER"
            ) from error
        log.info("%s: %s is there", title, path)


def _intact(remote: Remote, path: Path) -> bool:
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
