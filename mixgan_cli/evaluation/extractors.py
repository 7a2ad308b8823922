"""Networks that look at images: torch-fidelity's extractors, one pass over the images for all that is wanted of them.

Traps this code walks around: an extractor wants uint8 RGB; generative models are sampled here, not there, so that the
seed covers the choice of experts; features are widened to float64 before FID averages them; caches keyed by name only
are not used; weights that are incomplete give NaN features, which must never become a number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import create_feature_extractor
from tqdm import tqdm

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import ConfigError, Unavailable, nearest
from mixgan_cli.evaluation import classifier, hmog2019, pixels
from mixgan_cli.evaluation.moments import Moments
from mixgan_cli.evaluation.weights import checksum, find_weights, harmless

INCEPTION = "inception-v3-compat"
STANDARD_LAYER = "2048"
RESIZES = {
    INCEPTION: "bilinear to 299 px, as TensorFlow 1",
    hmog2019.NAME: "bilinear to 299 px",
    classifier.NAME: "bilinear with antialiasing to the set's own side",
    pixels.NAME: "none",
}
"""What an extractor does to images of another size than its own."""


class Features(NamedTuple):
    """What a pass over images gives, by layer: moments for FID, and features [N, F] float32 on the CPU."""

    moments: dict[str, Moments]
    kept: dict[str, Tensor]


@dataclass
class Extractor:
    """A feature extractor registered with torch-fidelity, giving some of its layers for images uint8 [N, C, H, W].

    Layers that cannot be computed, for lack of weights, are missing from `layers`; `missing` says why.
    """

    name: str
    wanted: Sequence[str]
    find: Callable[[], Path | None]
    """Returns the file of its weights, None for an extractor that brings its own. Raises Unavailable."""
    batch: int
    device: torch.device
    precision: Literal["float32", "bf16"] = "float32"

    @cached_property
    def weights(self) -> Path | None:
        """The file of the weights. Raises Unavailable."""
        return self.find()

    @cached_property
    def missing(self) -> dict[str, str]:
        """Why a wanted layer is not in `layers`."""
        try:
            probe = self._network(tuple(self.wanted))
        except Unavailable as error:
            return dict.fromkeys(self.wanted, str(error))
        except Exception as error:  # a damaged or foreign file; which kind of error it gives is torch's business
            return dict.fromkeys(
                self.wanted,
                f"{self.weights or self.name}: cannot be loaded ({type(error).__name__}: {error})",
            )
        some = torch.arange(2 * 3 * 32 * 32, device=self.device).remainder(251).to(torch.uint8).view(2, 3, 32, 32)
        finite = {name: bool(part.isfinite().all()) for name, part in self._apply(probe, some).items()}
        reason = f"{self.weights}: the weights are incomplete (NaN) up to the layer {{}}: get the full file"
        return {name: reason.format(name) for name, whole in finite.items() if not whole}

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The wanted layers that can be computed."""
        return tuple(name for name in self.wanted if name not in self.missing)

    def describe(self) -> dict[str, str | float | None]:
        """Say what a protocol says of the extractor: its name, how it resizes, the checksum of its weights.

        Of a classifier also which share of the set's held-out images it tells right.
        """
        try:
            found = self.weights
        except Unavailable:
            found = None
        told: dict[str, str | float | None] = {
            "name": self.name,
            "resize": RESIZES.get(self.name, "torch-fidelity's own"),
            "weights": checksum(found) if found else None,
        }
        if found and self.name == classifier.NAME:
            told["accuracy"] = classifier.accuracy_of(found)
        return told

    def __call__(
        self, images_NCHW: Tensor, description: str, averaged: Collection[str], kept: Collection[str]
    ) -> Features:
        """Pass over the images once; of the layers that can be computed, average some and keep some."""
        features = Features({layer: Moments() for layer in self.layers if layer in averaged}, {})
        parts: dict[str, list[Tensor]] = {layer: [] for layer in self.layers if layer in kept}
        layers = tuple(layer for layer in self.layers if layer in {*averaged, *kept})
        if not layers:
            return features
        network = self._network(layers)
        for images in tqdm(images_NCHW.split(self.batch), desc=description, unit="batch", leave=False):
            for layer, part in self._apply(network, _rgb(images).to(self.device)).items():
                if layer in features.moments:
                    features.moments[layer].add(part)
                if layer in parts:
                    parts[layer].append(part.float().cpu())
        features.kept.update({layer: torch.cat(pieces) for layer, pieces in parts.items()})
        return features

    def _network(self, layers: tuple[str, ...]) -> torch.nn.Module:
        weights = {"feature_extractor_weights_path": str(self.weights)} if self.weights else {}
        network = create_feature_extractor(self.name, list(layers), cuda=False, verbose=False, **weights)
        network = network.to(self.device, memory_format=torch.channels_last)  # 1.4 times as fast (docs/performance.md)
        assert not network.training, "an extractor in train mode gives other numbers"
        return network

    @torch.no_grad()
    def _apply(self, network: torch.nn.Module, images: Tensor) -> dict[str, Tensor]:
        in_bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), in_bf16:  # float32 means float32 here
            return network.convert_features_tuple_to_dict(network(images))  # type: ignore[operator]


def finder(name: str, evaluation: Evaluation, labelled: classifier.Labelled | None, device: torch.device):
    """Return what finds the weights of an extractor."""
    return {
        INCEPTION: lambda: harmless(find_weights(evaluation.weights, evaluation.download)),
        classifier.NAME: lambda: classifier.weights_for(labelled, device),
        hmog2019.NAME: lambda: hmog2019.find(evaluation.download),
    }.get(name, lambda: None)


def check_extractor(extractor: str) -> None:
    """Raise ConfigError where torch-fidelity knows no such extractor."""
    if extractor not in FEATURE_EXTRACTORS_REGISTRY:
        known = sorted(FEATURE_EXTRACTORS_REGISTRY)
        raise ConfigError(
            f"evaluation.extractors={extractor}: torch-fidelity knows no such extractor."
            f"{nearest(extractor, known)} Registered: {', '.join(known)}"
        )


def layer_for(metric: str, extractor: str, feature_layer: str) -> str:
    """Return the layer in which a metric looks at features: `feature_layer` of Inception, else the extractor's own."""
    if extractor == INCEPTION and metric != "isc":
        return feature_layer
    return FEATURE_EXTRACTORS_REGISTRY[extractor].get_default_feature_layer_for_metric(metric)


def gives(metric: str, extractor: str) -> bool:
    """Whether an extractor has a layer for the metric: not each gives the probabilities of classes."""
    try:
        layer = layer_for(metric, extractor, STANDARD_LAYER)
    except KeyError:
        return False
    return layer in FEATURE_EXTRACTORS_REGISTRY[extractor].get_provided_features_list()


def suffix(extractor: str, feature_layer: str) -> str:
    """Return what distinguishes a metric's name: another extractor than Inception, another layer than 2048."""
    if extractor != INCEPTION:
        return f"_{extractor}"
    return "" if feature_layer == STANDARD_LAYER else f"_{feature_layer}"


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
