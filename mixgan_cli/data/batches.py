"""Batches on the device, addressed by the number of images shown so far: whole, streamed, mirrored or sharded."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from mixgan_cli.data.images import to_float
from mixgan_cli.data.packed import ROWS, Packed
from mixgan_cli.runtime.device import total_memory
from mixgan_cli.runtime.random import bernoulli, permutation


class Batches(Protocol):
    """What the loop asks of its data."""

    def get_batch(self, nimg: int, batch: int) -> Tensor:
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

    def indices(self, nimg: int, batch: int) -> Tensor:
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

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W] in [-1, 1]."""
        return to_float(self.packed[self.order.indices(nimg, batch)])


def _moved(packed: Packed, device: torch.device) -> Packed:
    images = torch.empty((len(packed), *packed.shape), dtype=torch.uint8, device=device)
    for rows in torch.arange(len(packed)).split(ROWS):  # some at a time: the set may not fit into memory twice
        images[rows[0] : rows[-1] + 1] = packed[rows].to(device)
    return Packed(images, None, packed.preprocessing)


log = logging.getLogger("mixgan")

Place = Literal["auto", "device", "host", "disk"]
SHARE = 0.5
"""Of the device's free memory, or of the machine's, that a set may take."""


def batches_of(packed: Packed, seed: int | None, device: torch.device, place: Place) -> Batches:
    """Return a set's batches, the set being kept where `place` says, and say in the log where that is.

    device: whole on the device. host: in memory (pinned), a batch ahead on its way to the device. disk: mapped from the
    prepared file, read as it is needed. auto: the first of these it fits into.
    """
    chosen = _fitting(packed.nbytes, device) if place == "auto" else place
    where = {"device": f"on the device ({device.type})", "host": "in memory", "disk": "on disk, mapped"}[chosen]
    log.info("data: %s images, %.0f MiB, %s", f"{len(packed):,}", packed.nbytes / 2**20, where)
    if chosen == "device":
        return PackedBatches(packed, seed, device)
    return StreamedBatches(packed.in_memory() if chosen == "host" else packed, seed, device)


class StreamedBatches:
    """Batches gathered by a thread and copied to the device on a stream of their own, one ahead of the training.

    The order is that of `PackedBatches`, bit by bit.
    """

    def __init__(self, packed: Packed, seed: int | None, device: torch.device) -> None:
        self.packed, self.device = packed, device
        self.order = Order(len(packed), seed, torch.device("cpu"))
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[tuple[int, int], Future[_Sent]] | None = None
        self._last: int | None = None

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W] in [-1, 1]."""
        wanted = (nimg, batch)
        coming = (
            self._ahead[1] if self._ahead and self._ahead[0] == wanted else self._thread.submit(self._send, *wanted)
        )
        images, arrived = coming.result()
        stride = batch if self._last is None else nimg - self._last  # a rank of several takes only a part of each
        self._last = nimg
        following = (nimg + stride, batch)  # what is asked for next, if all goes on as before
        self._ahead = following, self._thread.submit(self._send, *following)
        if arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(arrived)
            images.record_stream(torch.cuda.current_stream(self.device))  # its memory is not given away before its use
        return to_float(images)

    def _send(self, nimg: int, batch: int) -> _Sent:
        images = self.packed[self.order.indices(nimg, batch)]
        if self.stream is None:
            return _Sent(images, None)
        with torch.cuda.stream(self.stream):
            sent = images.pin_memory().to(self.device, non_blocking=True)
            return _Sent(sent, self.stream.record_event())


class _Sent(NamedTuple):
    """Images on their way, and the event of their arrival; None where there is no way to go."""

    images: Tensor
    arrived: torch.cuda.Event | None


def _fitting(nbytes: int, device: torch.device) -> Literal["device", "host", "disk"]:
    memory = total_memory()
    on_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory
    if nbytes <= SHARE * on_device:
        return "device"
    return "host" if nbytes <= SHARE * memory else "disk"


BLOCK = 2**16
"""How many images one toss of coins serves; the next is tossed when they are used up."""


class Flipped:
    """Batches of which each image is mirrored left to right with probability 1/2.

    Whether it is, is a function of (seed, number of the image shown) and of nothing else, as the order is.
    """

    def __init__(self, batches: Batches, seed: int, device: torch.device) -> None:
        self.batches, self.seed, self.device = batches, seed, device
        self._blocks: dict[int, Tensor] = {}

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W]: those of the batches, mirrored or not."""
        images_NCHW = self.batches.get_batch(nimg, batch)
        return torch.where(self._flips(nimg, batch).view(-1, 1, 1, 1), images_NCHW.flip(3), images_NCHW)

    def _flips(self, nimg: int, batch: int) -> Tensor:
        """Return which of the images nimg … nimg + batch - 1 are mirrored, [batch] bool."""
        first, last = nimg // BLOCK, (nimg + batch - 1) // BLOCK
        coins_M = torch.cat([self._coins(block) for block in range(first, last + 1)])
        return coins_M[nimg - first * BLOCK :][:batch]

    def _coins(self, block: int) -> Tensor:
        if block not in self._blocks:
            self._blocks = {b: c for b, c in self._blocks.items() if b == block - 1}
            self._blocks[block] = sent(bernoulli(BLOCK, "flips", self.seed, block), self.device)
        return self._blocks[block]


class Sharded:
    """This rank's consecutive part of each batch.

    Images are addressed by their numbers; fresh points, which have none, come from random numbers that are shared out
    in the same way (see `randomness`).
    """

    def __init__(self, batches: Batches, rank: int, ranks: int) -> None:
        self.batches, self.rank, self.ranks = batches, rank, ranks

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return this rank's samples [batch / ranks, …] of those that follow the first `nimg` shown."""
        part = batch // self.ranks
        return self.batches.get_batch(nimg + self.rank * part, part)
