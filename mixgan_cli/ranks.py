"""The ranks of a run: processes that train together, each on its part of every batch. Alone, all here is the identity.

Only inside `together` do they act as one: there, random rows are this rank's rows of what all ranks draw (see
`randomness`), and batch norm takes the statistics of all ranks' samples. Outside, a rank draws, samples and evaluates
as a single process does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

_joined = False


class PeerLost(RuntimeError):
    """A rank waited for another one that has ended. What is wrong is that one's to tell."""


def count() -> int:
    """Return how many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 … count - 1."""
    return dist.get_rank() if count() > 1 else 0


def main() -> bool:
    """Whether this is the rank that writes, evaluates and speaks."""
    return rank() == 0


@contextmanager
def together() -> Iterator[None]:
    """Act, inside, as one of all ranks; each must come here as often as any other."""
    global _joined
    _joined = count() > 1
    try:
        yield
    finally:
        _joined = False


def joined() -> int:
    """Return how many ranks act as one: 1 outside `together`."""
    return count() if _joined else 1


def mine(rows: Tensor, parts: int = 1) -> Tensor:
    """Return this rank's share of rows [N, …] that all ranks have: of each of `parts` equal parts of them."""
    if joined() == 1:
        return rows
    return rows.unflatten(0, (parts, joined(), -1))[:, rank()].flatten(0, 1)


def mean(values: Tensor) -> Tensor:
    """Return the mean of values of any shape over the ranks that act as one, with its gradient, and its gradient's."""
    return _Sum.apply(values) / joined() if joined() > 1 else values


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, each of any shape, by their means over the ranks that act as one, in one message."""
    if joined() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten().to(tensors[0].dtype) for tensor in tensors])
    _add_up(flat)
    flat /= joined()
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


def highest(number: int) -> int:
    """Return the greatest of the ranks' numbers. All wait for the last one."""
    return max(_all(number))


def from_main(value: Any) -> Any:
    """Return rank 0's value. All wait for it."""
    return _all(value if main() else None)[0]


def _all(value: Any) -> list[Any]:
    values = [value] * count()
    if count() > 1:
        with _peers():
            dist.all_gather_object(values, value)
    return values


def _add_up(values: Tensor) -> None:
    with _peers():
        dist.all_reduce(values)


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(f"another process of this run ended: {error}") from error


class _Sum(Function):
    """The sum over ranks; its own adjoint."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        _add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)
