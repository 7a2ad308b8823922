"""What a metric sees: generated and real samples, their features, and the mixture that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.extractors import layer_for
from mixgan_cli.evaluation.features import Extractor, Features, cached_features, weights_finder
from mixgan_cli.evaluation.reference import ReferenceSet
from mixgan_cli.models.networks import Discriminator


class Layers(NamedTuple):
    """Layers of an extractor that a metric uses, by what it needs of them."""

    moments: frozenset[str] = frozenset()
    """Mean and covariance, of generated and of real images."""
    fake: frozenset[str] = frozenset()
    """All features of the generated images."""
    real: frozenset[str] = frozenset()
    """All features of the real images."""

    def union(self, other: Layers) -> Layers:
        """Return the layers that either of two metrics uses."""
        return Layers(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))


class FeatureStore:
    """Computes features with every extractor of a protocol: one pass for all metrics, none for cached real images.

    Args:
        settings: the protocol.
        layers: what the metrics of the protocol use, by extractor.
        reference: the real images.
        device: where to compute.
    """

    def __init__(
        self, settings: Evaluation, layers: Mapping[str, Layers], reference: ReferenceSet, device: torch.device
    ) -> None:
        self.layers = layers
        self.reference = reference
        self.extractors = {
            name: Extractor(
                name,
                sorted(wanted.moments | wanted.fake | wanted.real),
                weights_finder(name, settings, reference.labelled, device),
                settings.batch,
                device,
                settings.precision,
            )
            for name, wanted in layers.items()
        }
        self._of_reference: dict[str, Features] = {}

    def of_fakes(self, extractor: str, images_NCHW: Tensor) -> Features:
        """Return features of generated images uint8 [N, C, H, W]."""
        wanted = self.layers[extractor]
        title = f"{extractor}: features of generated images"
        return self.extractors[extractor](images_NCHW, title, wanted.moments, wanted.fake)

    def of_reference(self, extractor: str) -> Features:
        """Return features of the real images, computed once or read from the cache."""
        if extractor not in self._of_reference:
            wanted, network = self.layers[extractor], self.extractors[extractor]
            self._of_reference[extractor] = cached_features(
                network, self.reference.samples, wanted.moments, wanted.real
            )
        return self._of_reference[extractor]


@dataclass
class Comparison:
    """Samples of one generator, or images from a file, next to a reference set."""

    settings: Evaluation
    """The protocol."""
    fake: Tensor
    """Generated samples, in random order: images uint8 [N, C, H, W] or points [N, D]."""
    reference: ReferenceSet
    store: FeatureStore
    device: torch.device
    weights_BK: Tensor | None = None
    """The gate's weights, if the samples come from a mixture."""
    discriminator: Discriminator | None = None
    hierarchical: bool = False
    """True if the mixture is a binary tree, its leaves from left to right."""
    prior_K: Tensor | None = None
    """The distribution of experts that the gate learned, if it does not depend on the latent."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What metrics add to the protocol."""
    _fake_features: dict[str, Features] = field(default_factory=dict)

    @property
    def real(self) -> Tensor:
        """The real samples: images uint8 [M, C, H, W] or points [M, D]."""
        return self.reference.samples

    @property
    def is_images(self) -> bool:
        """True if the samples are images, False if they are points."""
        return self.fake.dim() == 4

    def features(self, extractor: str, metric: str = "fid") -> tuple[Tensor, Tensor]:
        """Return features of generated [N, F] and real [M, F] images, float32 on the CPU.

        Args:
            extractor: one of `evaluation.extractors`.
            metric: the layer is the one that this metric of torch-fidelity uses: `fid`, `kid`, `prc` or `isc`.

        Raises:
            Unavailable: the layer cannot be computed.
        """
        layer = self.layer(extractor, metric)
        return self.fake_features(extractor).kept[layer], self.store.of_reference(extractor).kept[layer]

    def check_same_shape(self) -> None:
        """Raise Unavailable if generated and real samples have different shapes, so that pixels cannot be compared."""
        if self.fake.shape[1:] != self.real.shape[1:]:
            shapes = f"{list(self.fake.shape[1:])} and {list(self.real.shape[1:])}"
            raise Unavailable(f"pixels of images of different shapes, {shapes}, have no distance")

    def fake_features(self, extractor: str) -> Features:
        """Return what an extractor computes of the generated images, in one pass for all metrics."""
        if extractor not in self._fake_features:
            self._fake_features[extractor] = self.store.of_fakes(extractor, self.fake)
            descriptions = self.notes.setdefault("extractors", {})
            descriptions[extractor] = self.store.extractors[extractor].describe()
        return self._fake_features[extractor]

    def layer(self, extractor: str, metric: str) -> str:
        """Return the layer that a metric of torch-fidelity uses.

        Raises:
            Unavailable: its weights are missing or incomplete, or it compares pixels of images of different shapes.
        """
        if extractor == "pixels":
            self.check_same_shape()
        layer = layer_for(metric, extractor, self.settings.feature_layer)
        missing = self.store.extractors[extractor].missing
        if layer in missing:
            raise Unavailable(missing[layer])
        return layer
