"""Sets are prepared once: decoded, cropped and resized into one array in the cache, and mapped from there after that.

What is in the cache is whole, or not there: a set is written beside its place and renamed when it is complete. A lock
keeps two processes from preparing the same set; the second waits and reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.files import alone, write_json


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
            with alone(folder.with_name(f"{folder.name}.lock"), name):
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
