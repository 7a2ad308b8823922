"""An iteration recorded once as a CUDA graph, and repeated: one launch instead of thousands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime.device import Compute

Inputs = Sequence[tuple[Tensor, ...]]
"""What each of an iteration's steps takes, and last the moving average's weight; on the device."""
StepFn = Callable[[Inputs], None]
"""The device's part."""

log = logging.getLogger("mixgan")

WARM_UP = 3
"""Iterations before the one that is recorded: optimisers get their state in the first, cuDNN chooses its kernels."""


def maybe_capture(step: StepFn, compute: Compute) -> StepFn:
    """Return work that is recorded and repeated, or as it is: whichever is wanted."""
    return CUDAGraphStep(step, compute.device) if compute.capture else step


class CUDAGraphStep:
    """Does what `step` does, from its fourth call on by replaying what the device did in it.

    A replay runs the same kernels on the same memory. So `step` must read nothing that changes but its inputs, whose
    values are copied to where the recording has them, and what lies on the device; random numbers come from the
    generator's seed and offset at the time of the replay, and are those that `step` itself would draw. Nothing may wait
    for the device: that is an error while it is recorded.

    Args:
        step: the device's part of an iteration.
        device: a CUDA device.
    """

    def __init__(self, step: StepFn, device: torch.device) -> None:
        self.step, self.device = step, device
        self._stream = torch.cuda.Stream(device)
        """Apart from the usual one: gradients' nodes remember their stream, and a recording is made on this."""
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
            usual = torch.cuda.current_stream(self.device)
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                self.step(inputs)
            usual.wait_stream(self._stream)
            return
        if self._graph is None:
            self._graph = self._recorded(inputs)
        for kept, fresh in zip(self._kept, inputs, strict=True):
            for mine, new in zip(kept, fresh, strict=True):
                mine.copy_(new)
        self._graph.replay()

    def _recorded(self, inputs: Inputs) -> torch.cuda.CUDAGraph:
        self._kept = [tuple(value.clone() for value in needed) for needed in inputs]
        graph = torch.cuda.CUDAGraph()
        usual = torch.cuda.current_stream(self.device)
        try:
            # the outer one puts the usual stream back, which a recording that fails does not
            # thread_local: the thread that sends batches ahead may go on
            with (
                torch.cuda.stream(usual),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self.step(self._kept)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = error.__context__ or error  # the end of a recording that has failed fails too
            raise ConfigError(
                f"hardware.capture: an iteration of this model and objective cannot be recorded ({reason}). "
                "Take hardware.capture=false"
            ) from error
        log.info("an iteration is recorded as a CUDA graph (hardware.capture=false runs it step by step)")
        return graph
