"""Where the weights of the Inception network are: a file that was named, a folder, torch's cache, or a download."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from mixgan_cli.errors import Unavailable

FILE = URL_INCEPTION_V3.rpartition("/")[2]
HASH_PREFIX = FILE.removesuffix(".pth").rpartition("-")[2]
VARIABLE = "MIXGAN_WEIGHTS"


@cache
def find_weights(named: str | None, may_download: bool) -> Path:
    """Return the file of the weights: `named`, $MIXGAN_WEIGHTS, torch's hub cache, or a download, in this order.

    Raises:
        Unavailable: none of these; with the way to get them.
    """
    if named is not None:
        return _existing(Path(named), f"evaluation.weights={named}")
    if os.environ.get(VARIABLE):
        return _existing(Path(os.environ[VARIABLE]), f"${VARIABLE}={os.environ[VARIABLE]}")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if cached.is_file():
        return cached
    how = f"download {URL_INCEPTION_V3} and give evaluation.weights=FILE, or set ${VARIABLE}"
    if not may_download:
        raise Unavailable(f"no Inception weights here, and evaluation.download=false: {how}")
    failed = _download(cached)
    if failed:
        raise Unavailable(f"no Inception weights here, and the download failed ({failed}): {how}")
    return cached


@cache
def harmless(path: Path) -> Path:
    """Return the path of a file that holds tensors and no code, for torch-fidelity unpickles whatever there is.

    Raises:
        Unavailable: it holds anything else, or is damaged.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # which kind of error a damaged or foreign file gives is torch's business
        raise Unavailable(f"{path}: cannot be loaded as tensors and nothing else ({type(error).__name__})") from error
    return path


@cache
def checksum(path: Path) -> str:
    """Return 16 hexadecimal digits of the file's SHA-256, which a protocol records."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _existing(path: Path, named: str) -> Path:
    files = sorted(path.glob("*inception*.pth"), key=lambda file: file.name != FILE) if path.is_dir() else [path]
    if not files or not files[0].is_file():  # first the official, complete file, then any other
        raise Unavailable(f"{named}: no Inception weights there")
    return files[0]


@cache  # one try a process: a machine without a network waits once
def _download(to: Path) -> str | None:
    """Fetch the weights; return what went wrong."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(to), hash_prefix=HASH_PREFIX)
    except Exception as error:  # no network, a proxy, a full disk: each means no weights
        return f"{type(error).__name__}: {error}"
    finally:
        socket.setdefaulttimeout(patience)
    return None
