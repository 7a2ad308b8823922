"""Pixels as features: what a distance is worth that knows nothing of images, and a check of those that do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor

NAME = "pixels"


class Pixels(FeatureExtractorBase):
    """Images as they are, [N, 3 H W] in [0, 1]. For small images: FID's matrix has (3 H W)² numbers."""

    def __init__(self, name: str, features_list: list[str], **settings: Any) -> None:
        super().__init__(name, features_list)
        self.eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the one layer."""
        return ("pixels",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the one layer, for metrics of distances. Raises KeyError for a score by classes."""
        return dict.fromkeys(("fid", "kid", "prc"), "pixels")[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """There is nothing to compile."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Return an image [1, 3, H, W]."""
        return torch.zeros(1, 3, 4, 4, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the pixels of uint8 images [N, 3, H, W]."""
        return (images.flatten(1).float() / 255,)


register_feature_extractor(NAME, Pixels)
