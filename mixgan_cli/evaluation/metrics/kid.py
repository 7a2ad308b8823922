"""Kernel inception distance (Bińkowski et al. 2018), by torch-fidelity's formula."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey

SUBSET = 1000
"""Samples of a subset."""


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
        """Return mean and, if there are more than 1,000 samples of each kind, deviation."""
        assert extractor is not None
        mean, std = kid(*comparison.features(extractor, "kid"), comparison.settings.seed)
        return {"kid": mean} if std is None else {"kid": mean, "kid_std": std}


def kid(fake_NF: Tensor, real_NF: Tensor, seed: int) -> tuple[float, float | None]:
    """Return mean and deviation of the kernel distance over 100 subsets of at most 1,000 samples.

    The deviation is None if a subset has all samples of a kind: then all subsets are the same set, or vary less than
    other samples would.
    """
    size = min(SUBSET, len(fake_NF), len(real_NF))
    result = kid_features_to_metric(fake_NF, real_NF, kid_subset_size=size, rng_seed=seed, verbose=False)
    std = result[KEY_METRIC_KID_STD] if min(len(fake_NF), len(real_NF)) > size else None
    return result[KEY_METRIC_KID_MEAN], std
