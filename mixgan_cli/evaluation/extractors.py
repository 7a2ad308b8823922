"""Feature extractors by name: which layer a metric uses, how its result keys are called, and raw pixels as features.

A name is one that torch-fidelity registers. mixgan adds `pixels` here, `classifier` in classifier.py and `hmog2019` in
inception.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from mixgan_cli.errors import ConfigError, nearest

INCEPTION = "inception-v3-compat"
STANDARD_LAYER = "2048"
"""The layer of the Inception network that FID is defined on."""


class ImageNetwork(FeatureExtractorBase):
    """Base class of the extractors that mixgan adds to torch-fidelity: uint8 images [N, 3, H, W] in, layers out.

    Args:
        name: the name it is registered by.
        features_list: the layers to return, in this order.
        settings: settings of torch-fidelity's own extractors, not used.
    """

    layer_of: ClassVar[Mapping[str, str]]
    """The layer that each of torch-fidelity's metrics (`fid`, `kid`, `prc`, `isc`) uses."""
    resize: ClassVar[str]
    """How images of another size are resized, as the protocol records it."""

    def __init__(self, name: str, features_list: list[str], **settings: Any) -> None:
        super().__init__(name, features_list)
        self.eval()

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        """Return the names of all layers."""
        return tuple(dict.fromkeys(cls.layer_of.values()))

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        """Return the layer that a metric of torch-fidelity uses. Raises KeyError if there is no such layer."""
        return cls.layer_of[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Return False: compilation has not been tried."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Return an image [1, 3, H, W] to compile for."""
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)


class Pixels(ImageNetwork):
    """Raw pixels as features [N, 3 H W] in [0, 1]: a baseline for learned features.

    It is for small images, because FID's covariance has (3 H W)² entries.
    """

    layer_of: ClassVar[Mapping[str, str]] = dict.fromkeys(("fid", "kid", "prc"), "pixels")
    resize = "none"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the pixels of uint8 images [N, 3, H, W]."""
        return (images.flatten(1).float() / 255,)


register_feature_extractor("pixels", Pixels)


def check_extractor(extractor: str) -> None:
    """Raise ConfigError if torch-fidelity knows no extractor of this name."""
    if extractor not in FEATURE_EXTRACTORS_REGISTRY:
        known = sorted(FEATURE_EXTRACTORS_REGISTRY)
        raise ConfigError(
            f"evaluation.extractors={extractor}: torch-fidelity knows no such extractor."
            f"{nearest(extractor, known)} Registered: {', '.join(known)}"
        )


def resize_of(extractor: str) -> str:
    """Return how an extractor resizes images, as the protocol records it."""
    if extractor == INCEPTION:
        return "bilinear to 299 px, as TensorFlow 1"
    return getattr(FEATURE_EXTRACTORS_REGISTRY[extractor], "resize", "torch-fidelity's own")


def layer_for(metric: str, extractor: str, feature_layer: str) -> str:
    """Return the layer that one of torch-fidelity's metrics uses.

    Args:
        metric: `fid`, `kid`, `prc` or `isc`.
        extractor: a registered name.
        feature_layer: the layer of Inception for all metrics but `isc`. Other extractors use their own default.

    Raises:
        KeyError: the extractor has no layer for this metric.
    """
    if extractor == INCEPTION and metric != "isc":
        return feature_layer
    return FEATURE_EXTRACTORS_REGISTRY[extractor].get_default_feature_layer_for_metric(metric)


def has_layer(metric: str, extractor: str) -> bool:
    """Return True if an extractor has a layer for one of torch-fidelity's metrics. Not every one has class logits."""
    try:
        layer = layer_for(metric, extractor, STANDARD_LAYER)
    except KeyError:
        return False
    return layer in FEATURE_EXTRACTORS_REGISTRY[extractor].get_provided_features_list()


def key_suffix(extractor: str | None, feature_layer: str) -> str:
    """Return the suffix of result keys: none for Inception's 2048 features, else the layer or the extractor's name."""
    if extractor is None:
        return ""
    if extractor != INCEPTION:
        return f"_{extractor}"
    return "" if feature_layer == STANDARD_LAYER else f"_{feature_layer}"
