"""Fakes and reals, and what is computed of them once for several metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.extractors import Features, layer_for, suffix
from mixgan_cli.models.networks import Discriminator

if TYPE_CHECKING:
    from mixgan_cli.evaluation.evaluate import Evaluator, Reals

Metrics = dict[str, Any]


@dataclass
class Comparison:
    """Samples of one generator, or images from elsewhere, against an evaluator's reals."""

    evaluator: Evaluator
    fake: Tensor
    weights_BK: Tensor | None
    discriminator: Discriminator | None
    hierarchical: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    """What the metrics tell the protocol."""
    _seen: dict[str, Features] = field(default_factory=dict)

    @property
    def reals(self) -> Reals:
        """The reals and what is known of them."""
        return self.evaluator.reals

    @property
    def real(self) -> Tensor:
        """The reals: images [N, C, H, W] or points [N, D]."""
        return self.reals.samples

    @property
    def evaluation(self) -> Evaluation:
        """The protocol's settings."""
        return self.evaluator.evaluation

    def fake_features(self, extractor: str) -> Features:
        """Return what an extractor finds in the fakes, passed over once."""
        if extractor not in self._seen:
            self._seen[extractor] = self.evaluator.features(extractor, self.fake)
            self.notes.setdefault("extractors", {})[extractor] = self.evaluator.extractors[extractor].describe()
        return self._seen[extractor]

    def real_features(self, extractor: str) -> Features:
        """Return what an extractor finds in the reals, passed over once."""
        return self.evaluator.real_features(extractor)

    def kept(self, extractor: str, *names: str) -> tuple[Tensor, Tensor]:
        """Return (fake, real) features [N, F]; or say for these metrics why there are none."""
        layer = self.need(extractor, "fid", *names)
        return self.fake_features(extractor).kept[layer], self.real_features(extractor).kept[layer]

    def need(self, extractor: str, metric: str, *names: str) -> str:
        """Return the extractor's layer for a metric; or say for these names why it cannot be computed."""
        self.need_images(*names)
        layer = layer_for(metric, extractor, self.evaluation.feature_layer)
        missing = self.evaluator.extractors[extractor].missing
        if layer in missing:
            raise Unavailable(missing[layer], *names)
        return layer

    def need_images(self, *names: str) -> None:
        """Say for these metrics that points are no images, if so."""
        if self.fake.dim() != 4:
            raise Unavailable("is for images; for points take evaluation=points", *names)

    def suffix(self, extractor: str) -> str:
        """Return what distinguishes the names of an extractor's metrics."""
        return suffix(extractor, self.evaluation.feature_layer)
