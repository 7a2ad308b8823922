"""Batches on the device, addressed by the number of images shown so far: whole, streamed, flipped or sharded."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from mixgan_cli.data.images import to_float
from mixgan_cli.data.packed import ROWS, Packed
from mixgan_cli.runtime.device import total_memory
from mixgan_cli.runtime.random import bernoulli, permutation, uniform

log = logging.getLogger("mixgan")

Place = Literal["auto", "device", "host", "disk"]
MEMORY_SHARE = 0.5
"""The share of the device's free memory, or of the machine's memory, that a set may take."""
FLIP_BLOCK = 2**16
"""Number of images whose flips are drawn at once."""


class Batches(Protocol):
    """What the training loop needs of its data."""

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return the samples that follow the first `nimg` shown, [batch, …] float32 on the device."""


def make_batches(packed: Packed, seed: int | None, device: torch.device, place: Place) -> Batches:
    """Return the batches of a set, and log where the set is kept.

    Args:
        packed: the set.
        seed: of the order; None: the order of the set.
        device: where batches are needed.
        place: device: the whole set on the device. host: in (pinned) memory, copied one batch ahead. disk: mapped from
            the prepared file and read as needed. auto: the first of these that has room.
    """
    chosen = _first_fit(packed.nbytes, device) if place == "auto" else place
    where = {"device": f"on the device ({device.type})", "host": "in memory", "disk": "on disk, mapped"}[chosen]
    log.info("data: %s images, %.0f MiB, %s", f"{len(packed):,}", packed.nbytes / 2**20, where)
    if chosen == "device":
        return PackedBatches(packed, seed, device)
    return StreamedBatches(packed.in_memory() if chosen == "host" else packed, seed, device)


def _first_fit(nbytes: int, device: torch.device) -> Literal["device", "host", "disk"]:
    memory = total_memory()
    on_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory
    if nbytes <= MEMORY_SHARE * on_device:
        return "device"
    return "host" if nbytes <= MEMORY_SHARE * memory else "disk"


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of any shape from the host to the device, without synchronising with it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class Order:
    """The order in which n samples are shown, a pure function of (seed, number of the sample).

    Epoch e shows the samples in the permutation (seed, e), or in their own order if seed is None. A batch may span two
    epochs, so no sample is dropped.
    """

    def __init__(self, n: int, seed: int | None, device: torch.device) -> None:
        self.n, self.seed, self.device = n, seed, device
        self._orders: dict[int, Tensor] = {}

    def indices(self, nimg: int, batch: int) -> Tensor:
        """Return the indices [batch] of the samples that follow the first `nimg` shown, on the device."""
        pieces, end = [], nimg + batch
        while nimg < end:  # split at the ends of epochs
            epoch, first = divmod(nimg, self.n)
            last = min(self.n, first + end - nimg)
            pieces.append(self._order(epoch)[first:last])
            nimg += last - first
        return torch.cat(pieces)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            identity = torch.arange(self.n)
            order = identity if self.seed is None else permutation(self.n, "order", self.seed, epoch)
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = to_device(order, self.device)
        return self._orders[epoch]


class PackedBatches:
    """Batches of a set that is whole on the device."""

    def __init__(self, packed: Packed, seed: int | None, device: torch.device) -> None:
        self.packed = packed if device.type == "cpu" else _copy_to(packed, device)
        self.order = Order(len(packed), seed, device)

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W] in [-1, 1]."""
        return to_float(self.packed[self.order.indices(nimg, batch)])


def _copy_to(packed: Packed, device: torch.device) -> Packed:
    images = torch.empty((len(packed), *packed.shape), dtype=torch.uint8, device=device)
    for rows in torch.arange(len(packed)).split(ROWS):  # in pieces: memory may not hold the set twice
        images[rows[0] : rows[-1] + 1] = packed[rows].to(device)
    return Packed(images, None, packed.preprocessing)


class StreamedBatches:
    """Batches that a thread gathers and copies to the device on its own stream, one batch ahead of training.

    They equal those of `PackedBatches` bit for bit.
    """

    def __init__(self, packed: Packed, seed: int | None, device: torch.device) -> None:
        self.packed, self.device = packed, device
        self.order = Order(len(packed), seed, torch.device("cpu"))
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[tuple[int, int], Future[_Copy]] | None = None
        self._last: int | None = None

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W] in [-1, 1]."""
        wanted = (nimg, batch)
        if self._ahead is None or self._ahead[0] != wanted:
            self._ahead = wanted, self._thread.submit(self._copy, *wanted)
        images, arrived = self._ahead[1].result()
        stride = batch if self._last is None else nimg - self._last  # with several ranks each takes a part of a batch
        self._last = nimg
        following = (nimg + stride, batch)
        self._ahead = following, self._thread.submit(self._copy, *following)
        if arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(arrived)
            images.record_stream(torch.cuda.current_stream(self.device))  # keeps its memory until it has been used
        return to_float(images)

    def _copy(self, nimg: int, batch: int) -> _Copy:
        indices = self.order.indices(nimg, batch)
        if self.stream is None:
            return _Copy(self.packed[indices], None)
        # Each thread has its own current device. Without the first context it would be the first process's.
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            pinned = torch.empty((batch, *self.packed.shape), dtype=torch.uint8, pin_memory=True)
            images = self.packed.gather(indices, pinned).to(self.device, non_blocking=True)
            return _Copy(images, self.stream.record_event())


class _Copy(NamedTuple):
    """Images that are being copied to the device, and the event of their arrival; None on the CPU."""

    images: Tensor
    arrived: torch.cuda.Event | None


class Flipped:
    """Batches of which each image is flipped left to right with probability 1/2.

    The flip is a pure function of (seed, number of the image shown), as the order is.
    """

    def __init__(self, batches: Batches, seed: int, device: torch.device) -> None:
        self.batches, self.seed, self.device = batches, seed, device
        self._blocks: dict[int, Tensor] = {}

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W], some of them flipped."""
        images_NCHW = self.batches.get_batch(nimg, batch)
        return torch.where(self._flips(nimg, batch).view(-1, 1, 1, 1), images_NCHW.flip(3), images_NCHW)

    def _flips(self, nimg: int, batch: int) -> Tensor:
        """Return which of the images nimg … nimg + batch - 1 are flipped, [batch] bool."""
        first, last = nimg // FLIP_BLOCK, (nimg + batch - 1) // FLIP_BLOCK
        flips_M = torch.cat([self._block(block) for block in range(first, last + 1)])
        return flips_M[nimg - first * FLIP_BLOCK :][:batch]

    def _block(self, block: int) -> Tensor:
        if block not in self._blocks:
            self._blocks = {b: flips for b, flips in self._blocks.items() if b == block - 1}
            self._blocks[block] = to_device(bernoulli(FLIP_BLOCK, "flips", self.seed, block), self.device)
        return self._blocks[block]


class Dequantized:
    """Batches with noise from U(0, 1/128), as wide as a grey level, added to each pixel, as in SNGAN's released code.

    Scaled so, images would lie in [-1, 1 + 1/128]. The noise depends on the seed and the iteration.
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return images [batch, C, H, W] with noise."""
        images_NCHW = self.batches.get_batch(nimg, batch)
        noise = uniform(*images_NCHW.shape, device=images_NCHW.device, dtype=images_NCHW.dtype)
        return images_NCHW + noise / 128


class Sharded:
    """This rank's consecutive part of each batch.

    Images are addressed by their numbers. Fresh points have none; their random numbers are sharded in the same way (see
    `mixgan_cli.runtime.random`).
    """

    def __init__(self, batches: Batches, rank: int, ranks: int) -> None:
        self.batches, self.rank, self.ranks = batches, rank, ranks

    def get_batch(self, nimg: int, batch: int) -> Tensor:
        """Return this rank's samples [batch / ranks, …] of those that follow the first `nimg` shown."""
        part = batch // self.ranks
        return self.batches.get_batch(nimg + self.rank * part, part)
