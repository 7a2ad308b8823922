"""The k-NN two-sample test: can the nearest neighbours tell generated samples from real ones?"""

from __future__ import annotations

import torch
from torch import Tensor


def two_sample_test(fake_ND: Tensor, real_MD: Tensor, k: int = 5, block: int = 1024) -> tuple[float, float]:
    """Return (fake, real): the mean share of its own kind among a sample's k nearest neighbours; 0.5 each is ideal.

    Both sets are pooled, distances are Euclidean, a sample is no neighbour of itself. This is the soft count of the
    HMoG author's code, not a majority vote. A high share of reals near reals tells of dropped modes, a very low one of
    memorised images; a high share of fakes near fakes of low diversity.

    Args:
        fake_ND: features of the generated samples.
        real_MD: features of the real samples.
        k: neighbours.
        block: rows of the distance matrix at a time: the memory is block · (N + M) numbers.
    """
    pool = torch.cat((fake_ND, real_MD)).double()
    pool = pool - pool.mean(dim=0)  # distances stay, and lose nothing to rounding in the expanded square below
    squares = pool.square().sum(dim=1)
    is_fake = torch.arange(len(pool), device=pool.device) < len(fake_ND)
    if k > len(pool) - 1:
        raise ValueError(f"{k} neighbours of {len(pool)} samples")
    shares = []
    for start in range(0, len(pool), block):
        rows = torch.arange(start, min(start + block, len(pool)), device=pool.device)
        distances = torch.addmm(squares, pool[rows], pool.T, alpha=-2)  # squared, less what a row has in common
        distances[rows - start, rows] = torch.inf
        nearest = distances.topk(k, largest=False).indices
        shares.append((is_fake[nearest] == is_fake[rows, None]).double().mean(dim=1))
    own_kind = torch.cat(shares)
    return own_kind[is_fake].mean().item(), own_kind[~is_fake].mean().item()
