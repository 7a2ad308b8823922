"""Inception score (Salimans et al. 2016), by torch-fidelity's formula, with Inception or another classifier."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import classifier
from mixgan_cli.evaluation.comparison import Comparison, Layers
from mixgan_cli.evaluation.extractors import STANDARD_LAYER
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey


class InceptionScore(Metric):
    """exp E KL(p(y|x) ‖ p(y)) over shuffled splits; `classifier_score` with a classifier trained on the data set."""

    name = "inception_score"
    layer = "isc"
    requires = ("images",)
    results: ClassVar = {
        "inception_score": ResultKey(
            "higher",
            "How certain the Inception network is of single images, and how varied they are; higher is better.",
            rank=20,
        ),
        "inception_score_std": ResultKey(role="deviation"),
        "classifier_score": ResultKey(
            "higher", "The Inception score of a classifier trained on the data set; higher is better.", rank=None
        ),
        "classifier_score_std": ResultKey(role="deviation"),
    }

    def needs(self, extractor: str, settings: Evaluation) -> Layers:
        """Return the layer of class logits, of the generated images."""
        return Layers(fake=super().needs(extractor, settings).fake)

    def keys(self, extractor: str | None, feature_layer: str) -> dict[str, str]:
        """Return the two keys that this extractor has. `feature_layer` does not matter: the logits are one layer."""
        if extractor == classifier.NAME:
            return {"inception_score": "classifier_score", "inception_score_std": "classifier_score_std"}
        names = super().keys(extractor, STANDARD_LAYER)
        return {key: name for key, name in names.items() if key.startswith(self.name)}

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return mean and deviation over the splits. Raises Unavailable if there are fewer images than splits."""
        assert extractor is not None
        settings, layer = comparison.settings, comparison.layer(extractor, "isc")
        if len(comparison.fake) < settings.splits:
            raise Unavailable(f"{settings.splits} splits of {len(comparison.fake)} images: raise evaluation.n_fake")
        logits_NC = comparison.fake_features(extractor).kept[layer]
        mean, std = inception_score(logits_NC, settings.splits, settings.seed)
        return {"inception_score": mean, "inception_score_std": std}


def inception_score(logits_NC: Tensor, splits: int, seed: int) -> tuple[float, float]:
    """Return mean and standard deviation of the score over shuffled splits."""
    score = isc_features_to_metric(logits_NC, splits=splits, shuffle=True, rng_seed=seed)
    return score[KEY_METRIC_ISC_MEAN], score[KEY_METRIC_ISC_STD]
