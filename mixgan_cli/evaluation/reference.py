"""What an extractor finds in the reals: computed once and kept by content, pixels and weights."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.packed import checksum
from mixgan_cli.evaluation.extractors import Extractor, Features
from mixgan_cli.evaluation.moments import Moments
from mixgan_cli.runtime.io import atomic_write

log = logging.getLogger("mixgan")


def of_reals(extractor: Extractor, reals: Tensor, averaged: Collection[str], kept: Collection[str]) -> Features:
    """Return the features of the reals uint8 [N, C, H, W], from the cache as far as they are there.

    The key is the reals' own checksum (their pixels, so their preprocessing and number too), the extractor, its
    weights and precision, and the layer.
    """
    wanted = {(layer, "moments") for layer in averaged} | {(layer, "features") for layer in kept}
    wanted = {(layer, kind) for layer, kind in wanted if layer in extractor.layers}
    told = extractor.describe()
    base = f"{checksum(reals)}/{told['name']}/{told['weights']}/{extractor.precision}"
    paths = {(layer, kind): _path(f"{base}/{layer}/{kind}") for layer, kind in wanted}
    found = Features({}, {})
    missing = {key for key, path in paths.items() if not _read(path, key, found)}
    if missing:
        title = f"{extractor.name}: features of real images"
        fresh = extractor(
            reals,
            title,
            {layer for layer, kind in missing if kind == "moments"},
            {layer for layer, kind in missing if kind == "features"},
        )
        found.moments.update(fresh.moments)
        found.kept.update(fresh.kept)
        for layer, kind in missing:
            arrays = fresh.moments[layer].state() if kind == "moments" else {"features": fresh.kept[layer].numpy()}
            _write(paths[layer, kind], arrays)
    return found


def _path(key: str) -> Path:
    return cache_dir() / "references" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _read(path: Path, key: tuple[str, str], into: Features) -> bool:
    layer, kind = key
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if kind == "moments":
                into.moments[layer] = Moments.from_state(dict(arrays))
            else:
                into.kept[layer] = torch.from_numpy(arrays["features"])
    except FileNotFoundError:
        return False
    except Exception as error:  # damaged, whatever numpy calls it: computed again and written anew
        log.warning("warning: %s cannot be read (%s); computing it again", path, error)
        return False
    return True


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        log.warning("warning: %s cannot be written (%s); the next evaluation computes it again", path, error.strerror)
