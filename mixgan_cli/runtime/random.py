"""Stateless random numbers: each seed is derived from words, so a checkpoint stores no random state.

The numbers drawn in a step depend only on (seed, step), so a resumed run draws the same numbers as an uninterrupted
one. Inside `distributed.synchronized()` all ranks draw the same numbers and each keeps its own rows, so any number of
ranks draws what one process would draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mixgan_cli.runtime import distributed


def derive_seed(*words: int | str) -> int:
    """Return a 63-bit seed derived from words and numbers, such as ("step", seed, 17)."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def fork_seed(*words: int | str) -> Iterator[None]:
    """Inside the block, draw from the random state derived from these words. Restore the old state afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derive_seed(*words))
        yield


def seed_step(*words: int | str) -> None:
    """Seed the default generators of the CPU and of the CUDA device in use with the seed derived from these words.

    The numbers are those after `torch.manual_seed`, which takes 170 µs longer because it looks for other devices.
    """
    seed = derive_seed(*words)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)


def permutation(n: int, *words: int | str) -> Tensor:
    """Return the permutation of 0…n-1 derived from these words, [n] int64 on the CPU."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed(*words)))


def bernoulli(n: int, *words: int | str) -> Tensor:
    """Return n Bernoulli(0.5) draws derived from these words, [n] bool on the CPU."""
    return torch.randint(2, (n,), generator=torch.Generator().manual_seed(derive_seed(*words)), dtype=torch.bool)


def normal(rows: int, *shape: int, device: torch.device | str | None = None, parts: int = 1) -> Tensor:
    """Draw [rows, …] from N(0, 1). Synchronised ranks draw one tensor; each keeps its rows of each of `parts` parts."""
    return distributed.local_shard(torch.randn(rows * distributed.sync_size(), *shape, device=device), parts)


def uniform(
    rows: int,
    *shape: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    parts: int = 1,
) -> Tensor:
    """Draw [rows, …] from U(0, 1), as `normal` does."""
    return distributed.local_shard(
        torch.rand(rows * distributed.sync_size(), *shape, device=device, dtype=dtype), parts
    )


def integers(low: int, high: int, rows: int, *shape: int, device: torch.device | str | None = None) -> Tensor:
    """Draw [rows, …] int64, uniform on low … high - 1, as `normal` does."""
    return distributed.local_shard(torch.randint(low, high, (rows * distributed.sync_size(), *shape), device=device))
