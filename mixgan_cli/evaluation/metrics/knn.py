"""The k-NN two-sample test: whether nearest neighbours distinguish generated samples from real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.comparison import Comparison, Layers
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey

IDEAL = 0.5


class KNN(Metric):
    """Share of a sample's own kind among its nearest neighbours, in pixels or in features of the first extractor."""

    name = "knn"
    layer = "fid"
    panel = "k-NN test"
    results: ClassVar = {
        "knn_fake": ResultKey(
            IDEAL,
            "Share of generated samples among the nearest neighbours of generated ones, all samples pooled. 0.5 is "
            "ideal; 1 means that generated and real samples are separable.",
            rank=60,
        ),
        "knn_real": ResultKey(IDEAL, "The same share of real samples; 0.5 is ideal.", rank=None),
        "knn_fake_majority": ResultKey(IDEAL, rank=None, role="variant"),
        "knn_real_majority": ResultKey(IDEAL, rank=None, role="variant"),
    }

    def needs(self, extractor: str, settings: Evaluation) -> Layers:
        """Return the layer of the first extractor, if the neighbours are those in features."""
        if settings.neighbour_features != "features" or extractor != settings.extractors[0]:
            return Layers()
        return super().needs(extractor, settings)

    def extractors(self, comparison: Comparison) -> Sequence[str | None]:
        """Return the first extractor, or (None,) for pixels and for points."""
        in_features = comparison.is_images and comparison.settings.neighbour_features == "features"
        return comparison.settings.extractors[:1] if in_features else (None,)

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the shares, of equally many generated and real samples: else 0.5 would not be ideal."""
        if extractor is not None:
            fake, real = comparison.features(extractor)
        else:
            fake, real = comparison.fake, comparison.real
            if fake.shape[1:] != real.shape[1:]:
                shapes = f"{list(fake.shape[1:])} and {list(real.shape[1:])}"
                raise Unavailable(f"pixels of images of different shapes, {shapes}, have no distance")
            fake, real = fake.flatten(1).float(), real.flatten(1).float()
        n = comparison.notes["neighbour_test_n"] = min(len(fake), len(real))
        fake, real = fake[:n].to(comparison.device), real[:n].to(comparison.device)
        return dict(zip(self.results, two_sample_test(fake, real, comparison.settings.neighbours), strict=True))

    def rank_value(self, key: str, suffix: str, values: Mapping[str, Any]) -> float:
        """Return the distance from the ideal, summed over generated and real samples."""
        both = (values.get(f"{name}{suffix}") for name in ("knn_fake", "knn_real"))
        return sum(abs((IDEAL if value is None else value) - IDEAL) for value in both)


class Shares(NamedTuple):
    """Share of their own kind among the neighbours of generated and real samples: mean, and by majority."""

    fake: float
    real: float
    fake_majority: float
    real_majority: float


def two_sample_test(fake_ND: Tensor, real_MD: Tensor, k: int = 5, block: int = 2048) -> Shares:
    """Return how often a sample's k nearest neighbours are of its own kind; one half each is ideal.

    Both sets are pooled, distances are Euclidean, and a sample is not its own neighbour. The mean share is the soft
    count of the HMoG paper's released code. By majority it is the share of samples most of whose neighbours are of
    their kind; a tie counts one half. A high share of real samples means dropped modes, a very low one memorised
    images. A high share of generated samples means low diversity.

    Distances are computed in float32 of centred features, in half the time of float64. The result differs only where
    neighbours are equally near within rounding. Features in float64 stay in float64.

    Args:
        fake_ND: features of the generated samples.
        real_MD: features of the real samples.
        k: number of neighbours.
        block: rows and columns of the distance matrix that are computed at a time. The memory is that of a few block²
            numbers, in addition to the features and a copy of them.
    """
    n, total = len(fake_ND), len(fake_ND) + len(real_MD)
    if k > total - 1:
        raise ValueError(f"{k} neighbours of {total} samples")
    pool = torch.cat((fake_ND, real_MD))
    pool = pool if pool.dtype == torch.float64 else pool.float()
    pool -= pool.mean(dim=0)  # the distances are the same, the rounding errors smaller
    squares = torch.cat([part.square().sum(dim=1) for part in pool.split(block)])
    own = torch.empty(total, dtype=torch.float64, device=pool.device)
    for first in range(0, total, block):
        rows = torch.arange(first, min(first + block, total), device=pool.device)
        nearest = _nearest(pool, squares, rows, k, block)
        own[rows] = ((nearest < n) == (rows < n).unsqueeze(1)).double().mean(dim=1)
    majority = torch.where(own == 0.5, 0.5, (own > 0.5).double())
    return Shares(*(part.mean().item() for part in (own[:n], own[n:], majority[:n], majority[n:])))


def _nearest(pool: Tensor, squares: Tensor, rows: Tensor, k: int, block: int) -> Tensor:
    """Return the indices of the k nearest samples of each row [rows, k] other than itself, by blocks of columns."""
    distances = torch.full((len(rows), k), torch.inf, dtype=pool.dtype, device=pool.device)
    numbers = torch.zeros((len(rows), k), dtype=torch.long, device=pool.device)
    for first in range(0, len(pool), block):
        columns = torch.arange(first, min(first + block, len(pool)), device=pool.device)
        here = torch.addmm(squares[columns], pool[rows], pool[columns].T, alpha=-2)  # without the row's own square
        here[rows.unsqueeze(1) == columns] = torch.inf
        distances, order = torch.cat((distances, here), dim=1).topk(k, dim=1, largest=False)
        numbers = torch.cat((numbers, columns.expand(len(rows), -1)), dim=1).gather(1, order)
    return numbers
