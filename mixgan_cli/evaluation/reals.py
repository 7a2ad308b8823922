"""What generated samples are compared with."""

from __future__ import annotations

from mixgan_cli.config import Evaluation
from mixgan_cli.data.dataset import Dataset, Source
from mixgan_cli.evaluation.evaluate import Reals


def reals_of(source: Source, dataset: Dataset, evaluation: Evaluation) -> Reals:
    """Return the protocol's n_real samples of a data set, which the networks never see in training."""
    gaussians = getattr(source, "gaussians", None)
    return Reals(dataset.reals(evaluation.n_real, evaluation.seed), dataset.describe(), gaussians)
