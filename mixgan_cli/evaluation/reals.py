"""What generated samples are compared with."""

from __future__ import annotations

from mixgan_cli.config import Evaluation
from mixgan_cli.data.dataset import Dataset, Source
from mixgan_cli.data.plane import Plane
from mixgan_cli.evaluation.evaluate import Reals


def reals_of(source: Source, dataset: Dataset, evaluation: Evaluation) -> Reals:
    """Return the protocol's n_real samples of a data set, which the networks never see in training."""
    n, seed = evaluation.n_real, evaluation.seed
    samples, about = dataset.reals(n, seed), dataset.describe()
    if isinstance(source, Plane):  # the next seed's points are independent of these
        return Reals(samples, about, source.gaussians, source.window, dataset.reals(n, seed + 1))
    return Reals(samples, about)
