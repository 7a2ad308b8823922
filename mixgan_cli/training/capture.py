"""An iteration recorded once as a CUDA graph, and repeated: one launch instead of thousands."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from mixgan_cli.errors import ConfigError
from mixgan_cli.training.iteration import Inputs, Move

log = logging.getLogger("mixgan")

WARM_UP = 3
"""Iterations before the one that is recorded: optimisers get their state in the first, cuDNN chooses its kernels."""


class Captured:
    """Does what `work` does, from its fourth call on by replaying what the device did in it.

    A replay runs the same kernels on the same memory. So `work` must read nothing that changes but its inputs, whose
    values are copied to where the recording has them, and what lies on the device; random numbers come from the
    generator's seed and offset at the time of the replay, and are those that `work` itself would draw. Nothing may wait
    for the device: that is an error while it is recorded.

    Args:
        work: the device's part of an iteration.
        device: a CUDA device.
    """

    def __init__(self, work: Move, device: torch.device) -> None:
        self.work, self.device = work, device
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._kept: list[tuple[Tensor, ...]] = []
        """The inputs where the recording has them."""

    def __call__(self, inputs: Inputs) -> None:
        """Do the work for these inputs, of the same shapes each time.

        Raises:
            ConfigError: it cannot be recorded.
        """
        if self._graph is None and self._calls < WARM_UP:
            self._calls += 1
            self._aside(inputs)
            return
        if self._graph is None:
            self._graph = self._recorded(inputs)
        for kept, fresh in zip(self._kept, inputs, strict=True):
            for mine, new in zip(kept, fresh, strict=True):
                mine.copy_(new)
        self._graph.replay()

    def _aside(self, inputs: Inputs) -> None:
        """Work on another stream than the usual one, as a recording does: gradients' nodes remember their stream."""
        stream, usual = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        stream.wait_stream(usual)
        with torch.cuda.stream(stream):
            self.work(inputs)
        usual.wait_stream(stream)

    def _recorded(self, inputs: Inputs) -> torch.cuda.CUDAGraph:
        self._kept = [tuple(value.clone() for value in needed) for needed in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: the thread that sends batches ahead may go on
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.work(self._kept)
        except RuntimeError as error:
            raise ConfigError(
                f"hardware.capture: an iteration of this model and objective cannot be recorded ({error}). "
                "Take hardware.capture=false"
            ) from error
        log.info("an iteration is recorded as a CUDA graph (hardware.capture=false runs it step by step)")
        return graph
