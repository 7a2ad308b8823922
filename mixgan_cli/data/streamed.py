"""Batches of a set that is larger than the device, or than the memory: copied to the device one batch ahead."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mixgan_cli import hardware
from mixgan_cli.data.batches import Batches, Order, PackedBatches
from mixgan_cli.data.packed import Packed
from mixgan_cli.data.pixels import to_float

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

    def at(self, nimg: int, batch: int) -> Tensor:
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
        images = self.packed.at(self.order.at(nimg, batch))
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
    memory = hardware.memory()
    on_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory
    if nbytes <= SHARE * on_device:
        return "device"
    return "host" if nbytes <= SHARE * memory else "disk"
