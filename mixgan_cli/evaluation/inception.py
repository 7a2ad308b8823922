"""Two Inception-v3 networks and their weights: the one FID is defined by, and torchvision's (the HMoG paper's).

FID's network is torch-fidelity's port of the TensorFlow 1 graph. Torchvision's is another network: images are scaled
to [0, 1], normalised with ImageNet's means and deviations and resized bilinearly to 299 pixels; `transform_input`
undoes the normalisation, and the 2048 pooled activations are the features (Ahmetoglu & Alpaydin 2020, utils.py of the
released code). Its scores compare with that paper's tables only.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.registry import register_feature_extractor
from torchvision.models import Inception_V3_Weights, inception_v3
from torchvision.transforms.v2.functional import normalize

from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.extractors import ImageNetwork
from mixgan_cli.runtime.io import environment_path

FILE = URL_INCEPTION_V3.rpartition("/")[2]
HASH_PREFIX = FILE.removesuffix(".pth").rpartition("-")[2]
VARIABLE = "MIXGAN_WEIGHTS"
TORCHVISION = "hmog2019"
"""The name of torchvision's network in `evaluation.extractors`."""
TORCHVISION_URL = Inception_V3_Weights.IMAGENET1K_V1.url
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMEOUT = 20
"""Seconds without an answer after which a download fails."""


class TorchvisionInception(ImageNetwork):
    """2048 features of torchvision's Inception-v3.

    Args:
        name: the name it is registered by.
        features_list: the layers to return.
        feature_extractor_weights_path: file of the weights.
        settings: not used.
    """

    layer_of: ClassVar[Mapping[str, str]] = dict.fromkeys(("fid", "kid", "prc"), "2048")
    resize = "bilinear to 299 px"

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **settings: Any
    ) -> None:
        super().__init__(name, features_list)
        self.network = inception_v3(weights=None, aux_logits=True, init_weights=False, transform_input=True)
        self.network.load_state_dict(torch.load(feature_extractor_weights_path, map_location="cpu", weights_only=True))
        self.network.fc = nn.Identity()
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features [N, 2048] of uint8 images [N, 3, H, W]."""
        normalised = normalize(images.float() / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
        return (self.network(interpolate(normalised, size=(299, 299), mode="bilinear", align_corners=False)),)


register_feature_extractor(TORCHVISION, TorchvisionInception)


@cache
def find_weights(named: str | None, may_download: bool) -> Path:
    """Return the file of FID's Inception weights: `named`, $MIXGAN_WEIGHTS, torch's hub cache or a download, in order.

    Raises:
        Unavailable: there is none of these; the message says how to get one.
    """
    if named is not None:
        return _existing(Path(named), f"evaluation.weights={named}")
    if path := environment_path(VARIABLE):
        return _existing(path, f"${VARIABLE}={os.environ[VARIABLE]}")
    cached = _hub_file(URL_INCEPTION_V3)
    if cached.is_file():
        return cached
    how = f"download {URL_INCEPTION_V3} and give evaluation.weights=FILE, or set ${VARIABLE}"
    if not may_download:
        raise Unavailable(f"no Inception weights here, and evaluation.download=false: {how}")
    if error := _download(URL_INCEPTION_V3, cached, HASH_PREFIX):
        raise Unavailable(f"no Inception weights here, and the download failed ({error}): {how}")
    return cached


@cache
def find_torchvision_weights(may_download: bool) -> Path:
    """Return the file of torchvision's Inception weights, from torch's hub cache or downloaded to it.

    Raises:
        Unavailable: there is neither; the message says how to get it.
    """
    path = _hub_file(TORCHVISION_URL)
    if path.is_file():
        return path
    missing = "no weights of torchvision's Inception here"
    if not may_download:
        raise Unavailable(f"{missing}, and evaluation.download=false: get {TORCHVISION_URL}")
    if error := _download(TORCHVISION_URL, path, path.stem.rpartition("-")[2]):
        raise Unavailable(f"{missing}, and the download failed ({error}): get {TORCHVISION_URL} as {path}")
    return path


@cache
def require_tensors(path: Path) -> Path:
    """Return the path if the file holds tensors only. torch-fidelity would unpickle anything, code included.

    Raises:
        Unavailable: the file holds anything else, or is damaged.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the type of the error depends on how the file is damaged
        raise Unavailable(f"{path}: cannot be loaded as tensors and nothing else ({type(error).__name__})") from error
    return path


@cache
def file_checksum(path: Path) -> str:
    """Return 16 hexadecimal digits of a file's SHA-256, as the protocol records it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _existing(path: Path, source: str) -> Path:
    """Return the file itself, or of a folder the official, complete file, else any other Inception file."""
    files = sorted(path.glob("*inception*.pth"), key=lambda file: file.name != FILE) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise Unavailable(f"{source}: no Inception weights there")
    return files[0]


@cache  # one attempt per process, so that a machine without a network waits once
def _download(url: str, to: Path, hash_prefix: str) -> str | None:
    """Download a file of weights and check its hash; return the error, or None."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(to), hash_prefix=hash_prefix)
    except Exception as error:  # no network, a proxy, a full disk: whatever it is, there are no weights
        return f"{type(error).__name__}: {error}"
    finally:
        socket.setdefaulttimeout(timeout)
    return None
