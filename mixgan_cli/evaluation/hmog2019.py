"""The HMoG author's features: torchvision's Inception-v3, which is not the FID's (Ahmetoglu & Alpaydin 2019, utils.py).

Images are scaled to [0, 1], normalised with ImageNet's means and deviations, and resized bilinearly to 299 pixels; the
network then undoes the normalisation (`transform_input`, as torchvision's pretrained weights did), and its 2048 pooled
activations are the features. Scores compare with the author's tables and with nothing else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor
from torchvision.models import Inception_V3_Weights, inception_v3
from torchvision.transforms.v2.functional import normalize

from mixgan_cli.errors import Unavailable

NAME = "hmog2019"
URL = Inception_V3_Weights.IMAGENET1K_V1.url
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionInception(FeatureExtractorBase):
    """2048 features of torchvision's Inception-v3 from the file `feature_extractor_weights_path`."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **settings: Any
    ) -> None:
        super().__init__(name, features_list)
        self.network = inception_v3(weights=None, aux_logits=True, init_weights=False, transform_input=True)
        self.network.load_state_dict(torch.load(feature_extractor_weights_path, map_location="cpu", weights_only=True))
        self.network.fc = nn.Identity()
        self.requires_grad_(False)
        self.eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the one layer."""
        return ("2048",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the one layer, for metrics of distances. Raises KeyError for a score by classes."""
        return dict.fromkeys(("fid", "kid", "prc"), "2048")[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Not tried."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Return an image [1, 3, H, W]."""
        return torch.zeros(1, 3, 299, 299, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the features [N, 2048] of uint8 images [N, 3, H, W]."""
        normalised = normalize(images.float() / 255, list(MEAN), list(STD))
        return (self.network(interpolate(normalised, size=(299, 299), mode="bilinear", align_corners=False)),)


@cache
def find(may_download: bool) -> Path:
    """Return the file of torchvision's weights: from torch's cache, or downloaded to it.

    Raises:
        Unavailable: neither; with the way to get it.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if path.is_file():
        return path
    if not may_download:
        raise Unavailable(f"no weights of torchvision's Inception here, and evaluation.download=false: get {URL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=path.stem.rpartition("-")[2])
    except Exception as error:  # no network, a proxy, a full disk: each means no weights
        raise Unavailable(
            f"no weights of torchvision's Inception here, and the download failed ({error}): get {URL} as {path}"
        ) from error
    return path


register_feature_extractor(NAME, TorchvisionInception)
