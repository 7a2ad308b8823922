"""Batches of several ranks: each takes its part of every batch."""

from __future__ import annotations

from torch import Tensor

from mixgan_cli.data.batches import Batches


class Sharded:
    """This rank's consecutive part of each batch.

    Images are addressed by their numbers; fresh points, which have none, come from random numbers that are shared out
    in the same way (see `randomness`).
    """

    def __init__(self, batches: Batches, rank: int, ranks: int) -> None:
        self.batches, self.rank, self.ranks = batches, rank, ranks

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return this rank's samples [batch / ranks, …] of those that follow the first `nimg` shown."""
        part = batch // self.ranks
        return self.batches.at(nimg + self.rank * part, part)
