"""Fréchet inception distance (Heusel et al. 2017), of all samples and of each expert's."""

from __future__ import annotations

from typing import Any, ClassVar

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.comparison import Comparison, Layers
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey
from mixgan_cli.evaluation.metrics.mixture import samples_by_expert
from mixgan_cli.evaluation.moments import Moments, frechet, least_bias


class FID(Metric):
    """Fréchet distance between Gaussians with the moments of generated and real features."""

    name = "fid"
    layer = "fid"
    requires = ("images",)
    results: ClassVar = {
        "fid": ResultKey(
            "lower",
            "Fréchet distance between features of generated and real images; lower is better. The suffix names the "
            "features; without one they are Inception's 2,048. Values of different features do not compare.",
            rank=10,
        ),
        "fid_bias": ResultKey(
            meaning="What two sets of real images of these sizes score at least, on average. A FID that is not many "
            "times larger depends on the number of images.",
            role="detail",
        ),
    }

    def needs(self, extractor: str, settings: Evaluation) -> Layers:
        """Return the layer, of which moments are enough: they take no more memory for more images."""
        return Layers(moments=super().needs(extractor, settings).fake)

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the distance, and the least bias that it has with this number of images."""
        assert extractor is not None
        layer = comparison.layer(extractor, "fid")
        fake = comparison.fake_features(extractor).moments[layer]
        real = comparison.store.of_reference(extractor).moments[layer]
        return {"fid": frechet(fake, real), "fid_bias": least_bias(real, len(comparison.fake))}


class FIDByExpert(Metric):
    """FID of each expert's samples against all real images. It needs `fid` among the metrics."""

    name = "experts"
    layer = "fid"
    requires = ("images", "gate_weights")
    results: ClassVar = {
        "fid_by_expert": ResultKey("lower", "FID of the samples of each expert; lower is better.", rank=None),
    }

    def needs(self, extractor: str, settings: Evaluation) -> Layers:
        """Return the layer, of the generated images."""
        return Layers(fake=super().needs(extractor, settings).fake)

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return a list [K] of distances. Raises Unavailable if an expert has fewer than two samples."""
        assert extractor is not None
        layer = comparison.layer(extractor, "fid")
        features = comparison.fake_features(extractor).kept[layer]
        real = comparison.store.of_reference(extractor).moments.get(layer)
        if real is None:
            raise Unavailable("needs fid among evaluation.metrics")
        return {
            "fid_by_expert": [frechet(Moments().add(features[rows]), real) for rows in samples_by_expert(comparison)]
        }
