"""The k-NN two-sample test: can the nearest neighbours tell generated samples from real ones?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Shares(NamedTuple):
    """Of fakes and of reals: the mean share of their own kind among a sample's neighbours, and the majority's."""

    fake: float
    real: float
    fake_majority: float
    real_majority: float


def two_sample_test(fake_ND: Tensor, real_MD: Tensor, k: int = 5, block: int = 2048) -> Shares:
    """Return how often a sample's k nearest neighbours are of its own kind; one half each is ideal.

    Both sets are pooled, distances are Euclidean, a sample is no neighbour of itself. The share is the soft count of
    the HMoG author's code; the majority, the share of samples most of whose neighbours are of their kind, a tie being
    one half. A high share of reals near reals tells of dropped modes, a very low one of memorised images; a high share
    of fakes near fakes of low diversity.

    Distances are computed in float32 of centred features, which costs half the time of float64 and decides otherwise
    only between neighbours that are as near as rounding can tell; float64 features are taken as they are.

    Args:
        fake_ND: features of the generated samples.
        real_MD: features of the real samples.
        k: neighbours.
        block: rows and columns of the distance matrix at a time: the memory is that of some block² numbers, beside the
            features and a copy of them.
    """
    n, total = len(fake_ND), len(fake_ND) + len(real_MD)
    if k > total - 1:
        raise ValueError(f"{k} neighbours of {total} samples")
    pool = torch.cat((fake_ND, real_MD))
    pool = pool if pool.dtype == torch.float64 else pool.float()
    pool -= pool.mean(dim=0)  # distances stay, rounding shrinks
    squares = torch.cat([part.square().sum(dim=1) for part in pool.split(block)])  # not all squares at once
    own = torch.empty(total, dtype=torch.float64, device=pool.device)
    for first in range(0, total, block):
        rows = torch.arange(first, min(first + block, total), device=pool.device)
        nearest = _nearest(pool, squares, rows, k, block)
        own[rows] = ((nearest < n) == (rows < n).unsqueeze(1)).double().mean(dim=1)
    majority = torch.where(own == 0.5, 0.5, (own > 0.5).double())
    return Shares(*(part.mean().item() for part in (own[:n], own[n:], majority[:n], majority[n:])))


def _nearest(pool: Tensor, squares: Tensor, rows: Tensor, k: int, block: int) -> Tensor:
    """Return the numbers of the k nearest of each row [rows, k], itself left out, column block by column block."""
    distances = torch.full((len(rows), k), torch.inf, dtype=pool.dtype, device=pool.device)
    numbers = torch.zeros((len(rows), k), dtype=torch.long, device=pool.device)
    for first in range(0, len(pool), block):
        columns = torch.arange(first, min(first + block, len(pool)), device=pool.device)
        here = torch.addmm(squares[columns], pool[rows], pool[columns].T, alpha=-2)  # squared, less a row's own
        here[rows.unsqueeze(1) == columns] = torch.inf
        distances, order = torch.cat((distances, here), dim=1).topk(k, dim=1, largest=False)
        numbers = torch.cat((numbers, columns.expand(len(rows), -1)), dim=1).gather(1, order)
    return numbers
