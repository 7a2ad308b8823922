"""What generated samples are compared with."""

from __future__ import annotations

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.data.dataset import Dataset, ImageDataset, Source, size_of
from mixgan_cli.data.datasets.toy2d import Toy2D
from mixgan_cli.errors import ConfigError
from mixgan_cli.evaluation.classifier import Labelled
from mixgan_cli.evaluation.evaluate import Reals


def reals_of(source: Source, dataset: Dataset, evaluation: Evaluation) -> Reals:
    """Return the protocol's n_real samples of a data set: held out, never seen in training; or of the training set.

    Raises:
        ConfigError: n_real is null, and the split has no fixed number of samples.
    """
    n, seed = evaluation.n_real or size_of(dataset, evaluation.split), evaluation.seed
    if n is None:
        raise ConfigError("evaluation.n_real=null: the data set holds out no fixed number of samples. Give a number")
    samples, about = dataset.reals(n, seed, evaluation.split), {**dataset.describe(), "split": evaluation.split}
    if isinstance(source, Toy2D):  # the next seed's points are independent of these
        return Reals(samples, about, source.gaussians, source.extent, dataset.reals(n, seed + 1))
    labelled = Labelled(dataset.train, dataset.held_out) if isinstance(dataset, ImageDataset) else None
    return Reals(samples, about, labelled=labelled)
