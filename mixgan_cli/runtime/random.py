"""Randomness is a function of names and numbers, so there is no random state to save.

What a step draws depends on (seed, step) alone: a resumed run draws what the uninterrupted one would have. Ranks that
train together (see `ranks`) draw the same numbers, and each takes its own rows: so many ranks draw what one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mixgan_cli.runtime import distributed


def key(*words: int | str) -> int:
    """Return a 63-bit seed for these words: ("step", seed, rank, 17), say."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*words: int | str) -> Iterator[None]:
    """Draw, inside, from the random state these words name; outside, go on as if nothing had been drawn."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(key(*words))
        yield


def permutation(n: int, *words: int | str) -> Tensor:
    """Return the permutation of 0…n-1 these words name, [n] int64 on the CPU."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(key(*words)))


def coins(n: int, *words: int | str) -> Tensor:
    """Return the n tosses of a fair coin these words name, [n] bool on the CPU."""
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(key(*words)), dtype=torch.bool)


def normal(rows: int, *shape: int, device: torch.device | str | None = None, parts: int = 1) -> Tensor:
    """Draw [rows, …] from N(0, 1); ranks that act as one draw one tensor, each taking its rows of each of its parts."""
    return distributed.mine(torch.randn(rows * distributed.joined(), *shape, device=device), parts)


def uniform(
    rows: int,
    *shape: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    parts: int = 1,
) -> Tensor:
    """Draw [rows, …] from U(0, 1), as `normal` does."""
    return distributed.mine(torch.rand(rows * distributed.joined(), *shape, device=device, dtype=dtype), parts)


def integers(low: int, high: int, rows: int, *shape: int, device: torch.device | str | None = None) -> Tensor:
    """Draw [rows, …] int64, uniform on low … high - 1, as `normal` does."""
    return distributed.mine(torch.randint(low, high, (rows * distributed.joined(), *shape), device=device))
