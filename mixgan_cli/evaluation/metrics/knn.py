"""The k-NN two-sample test: whether nearest neighbours distinguish generated samples from real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from scipy.stats import hypergeom
from torch import Tensor

from mixgan_cli.config.schema import Evaluation
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
            comparison.check_same_shape()
            fake, real = comparison.fake.flatten(1), comparison.real.flatten(1)
            if not comparison.is_images:
                fake, real = fake.double(), real.double()
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

    Of samples that are equally far, those that complete the k neighbours are chosen at random: both shares are the
    expected values. Distances are exact for whole numbers, such as pixels. Others are computed in their own precision,
    of centred features, and count as equal if they differ by less than the rounding error.

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
    pool = _centred(torch.cat((fake_ND, real_MD)))
    squares = torch.cat([part.square().sum(dim=1) for part in pool.split(block)])
    own, majority = (torch.empty(total, dtype=torch.float64, device=pool.device) for _ in range(2))
    for rows in torch.arange(total, device=pool.device).split(block):
        counts = _count_neighbours(pool, squares, rows, k, block, n)
        own[rows], majority[rows] = _expected_shares(counts, k)
    return Shares(*(part.mean().item() for part in (own[:n], own[n:], majority[:n], majority[n:])))


class Counts(NamedTuple):
    """For each row, neighbours [N] that are nearer than the k-th or as far as it: all, and those of the row's kind."""

    nearer: Tensor
    nearer_own: Tensor
    tied: Tensor
    tied_own: Tensor


def _centred(pool: Tensor) -> Tensor:
    """Return features around 0, where rounding errors are smaller. Whole numbers stay whole, in float64."""
    if not pool.is_floating_point():
        pool = pool.double()
        return pool - pool.mean(dim=0).round()
    pool = pool if pool.dtype == torch.float64 else pool.float()
    return pool - pool.mean(dim=0)


def _count_neighbours(pool: Tensor, squares: Tensor, rows: Tensor, k: int, block: int, n: int) -> Counts:
    """Count the k nearest neighbours of some rows, and those that are as far as the k-th one."""
    distances, numbers = _nearest(pool, squares, rows, min(k + 1, len(pool) - 1), block)
    own = (numbers < n) == (rows < n).unsqueeze(1)
    counts = Counts(
        torch.full_like(rows, k - 1), own[:, : k - 1].sum(dim=1), torch.ones_like(rows), own[:, k - 1].long()
    )
    # the rounding error of a squared distance that is a difference of squared norms
    error = 64 * torch.finfo(pool.dtype).eps * (2 * squares[rows] + distances[:, k - 1]).clamp(min=0)
    tied = distances[:, -1] - distances[:, k - 1] <= error
    if distances.shape[1] == k or not tied.any():  # all samples are neighbours, or no two are equally far
        return counts
    several, last, error = rows[tied], distances[tied, k - 1].unsqueeze(1), error[tied].unsqueeze(1)
    exact = Counts(*(torch.zeros_like(several) for _ in Counts._fields))
    for columns in torch.arange(len(pool), device=pool.device).split(block):
        here = _distances(pool, squares, several, columns)
        same = (columns < n) == (several < n).unsqueeze(1)
        nearer, equal = here < last - error, (here - last).abs() <= error
        for count, chosen in zip(exact, (nearer, nearer & same, equal, equal & same), strict=True):
            count += chosen.sum(dim=1)
    for count, found in zip(counts, exact, strict=True):
        count[tied] = found
    return counts


def _expected_shares(counts: Counts, k: int) -> tuple[Tensor, Tensor]:
    """Return the expected share of the own kind among k neighbours, and the probability that it is the majority.

    The neighbours beyond those that are nearer are drawn from the tied ones without replacement.
    """
    missing = k - counts.nearer
    own = (counts.nearer_own + missing * counts.tied_own.double() / counts.tied) / k
    if (counts.tied == missing).all():  # nothing is drawn
        return own, _majority(counts.nearer_own + counts.tied_own, k)
    tied, tied_own, draws = (count.cpu().numpy() for count in (counts.tied, counts.tied_own, missing))
    expected = torch.zeros_like(own)
    for drawn in range(k + 1):
        probability = torch.from_numpy(hypergeom.pmf(drawn, tied, tied_own, draws)).to(own.device)
        expected += probability * _majority(counts.nearer_own + drawn, k)
    return own, expected


def _majority(own: Tensor, k: int) -> Tensor:
    """Return 1 where more than half of k neighbours are of the own kind, one half where it is half of them."""
    return ((2 * own > k).double() + (2 * own >= k).double()) / 2


def _distances(pool: Tensor, squares: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return squared distances [rows, columns] without the row's own square; a sample is infinitely far from itself."""
    here = torch.addmm(squares[columns], pool[rows], pool[columns].T, alpha=-2)
    here[rows.unsqueeze(1) == columns] = torch.inf
    return here


def _nearest(pool: Tensor, squares: Tensor, rows: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    """Return distances and indices [rows, k] of the k nearest samples of each row, by blocks of columns."""
    distances = torch.full((len(rows), k), torch.inf, dtype=pool.dtype, device=pool.device)
    numbers = torch.zeros((len(rows), k), dtype=torch.long, device=pool.device)
    for columns in torch.arange(len(pool), device=pool.device).split(block):
        here = _distances(pool, squares, rows, columns)
        distances, order = torch.cat((distances, here), dim=1).topk(k, dim=1, largest=False)
        numbers = torch.cat((numbers, columns.expand(len(rows), -1)), dim=1).gather(1, order)
    return distances, numbers
