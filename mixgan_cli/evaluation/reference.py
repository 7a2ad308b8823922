"""The reference set: the real samples that generated ones are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.data.dataset import Dataset, ImageDataset, Source, size_of
from mixgan_cli.data.datasets.stacked_mnist import StackedDigits
from mixgan_cli.data.datasets.toy2d import Toy2D
from mixgan_cli.errors import ConfigError
from mixgan_cli.evaluation.classifier import Labelled


@dataclass(frozen=True)
class ReferenceSet:
    """Real images uint8 [N, C, H, W] or points [N, D], with what is known of them."""

    samples: Tensor
    description: Mapping[str, Any]
    """What the protocol records: the data set, its checksum and preprocessing."""
    gaussians: tuple[Tensor, Tensor] | None = None
    """Means [M, 2] and standard deviations [M] of the modes, if the data are such a mixture."""
    extent: float | None = None
    """Half the side of the square about the origin that histograms of points cover."""
    second_draw: Tensor | None = None
    """As many points again [N, 2], independent of the others. They show what a perfect generator would score."""
    labelled: Labelled | None = None
    """The data set, for a classifier of its images; None without labels."""
    digits: Labelled | None = None
    """The single digits, if the images are stacks of three of them."""

    def first(self, n: int) -> ReferenceSet:
        """Return the first n samples as a reference set."""
        second_draw = None if self.second_draw is None else self.second_draw[:n]
        return replace(self, samples=self.samples[:n], second_draw=second_draw)


def reference_set(source: Source, dataset: Dataset, settings: Evaluation) -> ReferenceSet:
    """Return `evaluation.n_real` samples of a data set, held out or of the training set (`evaluation.split`).

    Raises:
        ConfigError: n_real is null, but the split has no fixed number of samples.
    """
    n, seed = settings.n_real or size_of(dataset, settings.split), settings.seed
    if n is None:
        raise ConfigError("evaluation.n_real=null: the data set holds out no fixed number of samples. Give a number")
    samples = dataset.reals(n, seed, settings.split)
    description = {**dataset.describe(), "split": settings.split}
    if isinstance(source, Toy2D):  # points of the next seed are independent of these
        second_draw = dataset.reals(n, seed + 1)
        return ReferenceSet(samples, description, source.gaussians, source.extent, second_draw)
    if isinstance(dataset, StackedDigits):
        digits = Labelled(dataset.single.train, dataset.single.held_out)
        return ReferenceSet(samples, description, digits=digits)
    labelled = Labelled(dataset.train, dataset.held_out) if isinstance(dataset, ImageDataset) else None
    return ReferenceSet(samples, description, labelled=labelled)
