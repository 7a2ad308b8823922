"""Randomness is a function of names and numbers, so there is no random state to save.

What a step draws depends on (seed, rank, step) alone: a resumed run draws what the uninterrupted one would have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def key(*words: int | str) -> int:
    """Return a 63-bit seed for these words: ("step", seed, rank, 17), say."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*words: int | str) -> Iterator[None]:
    """Draw, inside, from the random state these words name; outside, go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(key(*words))
        yield


def permutation(n: int, *words: int | str) -> torch.Tensor:
    """Return the permutation of 0…n-1 these words name, [n] int64 on the CPU."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(key(*words)))


def coins(n: int, *words: int | str) -> torch.Tensor:
    """Return the n tosses of a fair coin these words name, [n] bool on the CPU."""
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(key(*words)), dtype=torch.bool)
