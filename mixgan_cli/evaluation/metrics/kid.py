"""Kernel inception distance (Bińkowski et al. 2018), by torch-fidelity's formula."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey


class KID(Metric):
    """Mean and deviation of the squared maximum mean discrepancy over random subsets."""

    name = "kid"
    layer = "kid"
    requires = ("images",)
    results: ClassVar = {
        "kid": ResultKey("lower", "Squared maximum mean discrepancy of features; lower is better.", rank=30),
        "kid_std": ResultKey(role="deviation"),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return mean and deviation."""
        assert extractor is not None
        mean, std = kid(*comparison.features(extractor, "kid"), comparison.settings.seed)
        return {"kid": mean, "kid_std": std}


def kid(fake_NF: Tensor, real_NF: Tensor, seed: int) -> tuple[float, float]:
    """Return mean and deviation of the kernel distance over 100 subsets of at most 1,000 samples."""
    size = min(1000, len(fake_NF), len(real_NF))
    result = kid_features_to_metric(fake_NF, real_NF, kid_subset_size=size, rng_seed=seed, verbose=False)
    return result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD]
