"""Images shown mirrored half of the time."""

from __future__ import annotations

import torch
from torch import Tensor

from mixgan_cli.data.batches import Batches, sent
from mixgan_cli.randomness import coins

BLOCK = 2**16
"""How many images one toss of coins serves; the next is tossed when they are used up."""


class Flipped:
    """Batches of which each image is mirrored left to right with probability 1/2.

    Whether it is, is a function of (seed, number of the image shown) and of nothing else, as the order is.
    """

    def __init__(self, batches: Batches, seed: int, device: torch.device) -> None:
        self.batches, self.seed, self.device = batches, seed, device
        self._blocks: dict[int, Tensor] = {}

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W]: those of the batches, mirrored or not."""
        images_NCHW = self.batches.at(nimg, batch)
        return torch.where(self._flips(nimg, batch).view(-1, 1, 1, 1), images_NCHW.flip(3), images_NCHW)

    def _flips(self, nimg: int, batch: int) -> Tensor:
        """Return which of the images nimg … nimg + batch - 1 are mirrored, [batch] bool."""
        first, last = nimg // BLOCK, (nimg + batch - 1) // BLOCK
        coins_M = torch.cat([self._coins(block) for block in range(first, last + 1)])
        return coins_M[nimg - first * BLOCK :][:batch]

    def _coins(self, block: int) -> Tensor:
        if block not in self._blocks:
            self._blocks = {b: c for b, c in self._blocks.items() if b == block - 1}
            self._blocks[block] = sent(coins(BLOCK, "flips", self.seed, block), self.device)
        return self._blocks[block]
