"""Batches on the device, addressed by the absolute number of images shown so far."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mixgan_cli.data.packed import ROWS, Packed
from mixgan_cli.data.pixels import to_float
from mixgan_cli.randomness import permutation


class Batches(Protocol):
    """What the loop asks of its data."""

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return the samples that follow the first `nimg` shown, [batch, …] float32 on the device."""


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host's, of any shape, on the device; what is under way there is not waited for."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Order:
    """The order in which a set of n is shown: a function of (seed, number of the sample) and of nothing else.

    Epoch e shows the samples in the permutation (seed, e), without a seed as they stand; a batch may span two epochs,
    so no sample is dropped.
    """

    def __init__(self, n: int, seed: int | None, device: torch.device) -> None:
        self.n, self.seed, self.device = n, seed, device
        self._orders: dict[int, Tensor] = {}

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return the indices [batch] of the samples that follow the first `nimg` shown, on the device."""
        return torch.cat([order[first:last] for order, first, last in self._pieces(nimg, batch)])

    def _pieces(self, nimg: int, batch: int) -> list[tuple[Tensor, int, int]]:
        """Cut the numbers nimg … nimg + batch - 1 at the borders of epochs."""
        pieces, end = [], nimg + batch
        while nimg < end:
            epoch, first = divmod(nimg, self.n)
            last = min(self.n, first + end - nimg)
            pieces.append((self._order(epoch), first, last))
            nimg += last - first
        return pieces

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            as_they_stand = torch.arange(self.n)
            order = as_they_stand if self.seed is None else permutation(self.n, "order", self.seed, epoch)
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = sent(order, self.device)
        return self._orders[epoch]


class PackedBatches:
    """A packed set, whole on the device, in an order that is a function of (seed, image number)."""

    def __init__(self, packed: Packed, seed: int | None, device: torch.device) -> None:
        self.packed = packed if device.type == "cpu" else _moved(packed, device)
        self.order = Order(len(packed), seed, device)

    def at(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W] in [-1, 1]."""
        return to_float(self.packed.at(self.order.at(nimg, batch)))


def _moved(packed: Packed, device: torch.device) -> Packed:
    images = torch.empty((len(packed), *packed.shape), dtype=torch.uint8, device=device)
    for rows in torch.arange(len(packed)).split(ROWS):  # some at a time: the set may not fit into memory twice
        images[rows[0] : rows[-1] + 1] = packed.at(rows).to(device)
    return Packed(images, None, packed.preprocessing)
