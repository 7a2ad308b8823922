"""The cache of prepared data sets: each is decoded once into one uint8 array that is mapped from disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError, error_summary
from mixgan_cli.runtime.io import environment_path, file_lock, write_json
from mixgan_cli.runtime.reading import real_path


def cache_dir() -> Path:
    """Return the folder for downloads and prepared sets: $MIXGAN_CACHE, or ~/.cache/mixgan.

    Raises:
        DataError: $MIXGAN_CACHE is not set, and this user has no home folder.
    """
    try:
        return environment_path("MIXGAN_CACHE") or Path.home() / ".cache" / "mixgan"
    except RuntimeError as error:
        raise DataError("this user has no home folder for the cache of data sets. Set $MIXGAN_CACHE") from error


def replace_hint(path: Path) -> str:
    """Return what to do about a damaged file: only what mixgan downloaded itself may be deleted and fetched again."""
    with suppress(DataError, OSError):
        if real_path(path).is_relative_to(real_path(cache_dir())):
            return "Delete it and fetch it again"
    return "Replace it by an intact copy"


class Block(NamedTuple):
    """Consecutive images uint8 [n, C, H, W] of a set, and their labels int64 [n] or None."""

    images_NCHW: Tensor
    labels_N: Tensor | None


@dataclass(frozen=True)
class SplitReader:
    """How to read one split of a set, such as its training images."""

    blocks: Callable[[], Iterator[Block]]
    preprocessing: str
    """What is done to the images, in words."""
    total: int | None = None
    """Number of images, if it is known in advance."""


def prepare(name: str, recipe: Mapping[str, Any], splits: Mapping[str, SplitReader]) -> dict[str, Packed]:
    """Return each split of a set from the cache, and prepare the set if it is not there yet.

    Args:
        name: the set's name.
        recipe: everything that decides the result: the content of the source (`Archive.fingerprint`), size, crop. The
            name of the cache folder contains its hash.
        splits: {split: how to read it}.

    Raises:
        DataError: the source is damaged, or the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_dir() / "prepared" / f"{name}-{key}"
    try:
        if not _complete(folder):  # reading takes no lock, so a read-only cache works
            folder.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(folder.with_name(f"{folder.name}.lock"), name):
                if not _complete(folder):  # another process may have finished it meanwhile
                    _write(folder, name, recipe, splits)
    except OSError as error:
        raise DataError(
            f"{folder}: the prepared set cannot be written ({error_summary(error)}). Free some space, or set "
            "$MIXGAN_CACHE to another folder; nothing incomplete is kept"
        ) from error
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return {split: _map(folder, split, about["parts"][split], each.preprocessing) for split, each in splits.items()}


def _write(folder: Path, name: str, recipe: Mapping[str, Any], splits: Mapping[str, SplitReader]) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # incomplete
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir()
    try:
        about = {split: _write_split(temporary, f"{name} {split}", split, each) for split, each in splits.items()}
        write_json(temporary / "about.json", {"recipe": recipe, "parts": about})
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(folder: Path, title: str, split: str, reader: SplitReader) -> dict[str, Any]:
    """Write the images and labels of one split, and return its record for about.json."""
    shape: tuple[int, ...] | None = None
    count, labelled = 0, 0
    with (
        _open_synced(folder / f"{split}.images") as images,
        _open_synced(folder / f"{split}.labels") as labels,
        tqdm(desc=f"preparing {title}", unit="img", total=reader.total, leave=False) as progress,
    ):
        for block in reader.blocks():
            shape = tuple(block.images_NCHW.shape[1:])
            images.write(block.images_NCHW.contiguous().numpy().data)
            if block.labels_N is not None:
                labels.write(block.labels_N.contiguous().numpy().data)
                labelled += len(block.labels_N)
            count += len(block.images_NCHW)
            progress.update(len(block.images_NCHW))
    if shape is None:
        raise DataError(f"{title}: no images")
    about = {"shape": [count, *shape], "labelled": labelled == count, "preprocessing": reader.preprocessing}
    return {**about, "checksum": _map(folder, split, about, reader.preprocessing).checksum}


def _map(folder: Path, split: str, about: Mapping[str, Any], preprocessing: str) -> Packed:
    """Map one split from disk; pages are read when they are used."""

    def array(kind: str, dtype: type, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.memmap(folder / f"{split}.{kind}", dtype, mode="c", shape=shape))

    n = about["shape"][0]
    labels = array("labels", np.int64, (n,)) if about["labelled"] else None
    return Packed(array("images", np.uint8, tuple(about["shape"])), labels, preprocessing)


def _complete(folder: Path) -> bool:
    """Return whether about.json is readable and every file has the size it records."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        return all(
            (folder / f"{split}.images").stat().st_size == np.prod(record["shape"])
            and (folder / f"{split}.labels").stat().st_size == 8 * record["shape"][0] * record["labelled"]
            for split, record in about["parts"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def _open_synced(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
