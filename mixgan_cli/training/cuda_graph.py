"""Capture an iteration as a CUDA graph and replay it: one launch instead of thousands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime.device import Compute

Inputs = Sequence[Mapping[str, Tensor]]
"""The inputs of an iteration's device part, by name, on the device: see `loop.read_inputs`."""
StepFn = Callable[[Inputs], None]
"""The device part of an iteration: see `loop.make_step`."""

log = logging.getLogger("mixgan")

WARM_UP = 3
"""Iterations before the captured one. In them, optimisers create their state and cuDNN chooses its kernels."""


def maybe_capture(step: StepFn, compute: Compute, optimizers: Iterable[Optimizer] = ()) -> StepFn:
    """Return a step that is captured and replayed if `compute.capture` is set, or the step itself.

    Args:
        step: the device part of an iteration.
        compute: the device, and if the step is captured.
        optimizers: those of the step, whose gradients are freed if it cannot be captured.
    """
    if not compute.capture:
        return step
    return CUDAGraphStep(step, compute.device, compute.capture == "auto", optimizers)


class CUDAGraphStep:
    """Run `step` three times, capture it in the fourth call, and replay it from then on.

    A replay runs the same kernels on the same memory. Therefore, `step` may read only its inputs, whose values are
    copied to the memory that the graph reads, and tensors that stay in place on the device. Random numbers come from
    the seed and offset of torch's random generator at the time of the replay, and are those that `step` itself would
    draw. Waiting for the device is an error during the capture.

    Args:
        step: the device part of an iteration.
        device: a CUDA device.
        optional: if the step cannot be captured, run it as it is.
        optimizers: those of the step, whose gradients are freed then.
    """

    def __init__(
        self, step: StepFn, device: torch.device, optional: bool = False, optimizers: Iterable[Optimizer] = ()
    ) -> None:
        self.step, self.device, self.optional, self.optimizers = step, device, optional, optimizers
        self._stream = torch.cuda.Stream(device)
        """Not the default stream: autograd nodes remember their stream, and the capture is made on this one."""
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: list[dict[str, Tensor]] = []
        """The memory from which the graph reads its inputs."""

    def __call__(self, inputs: Inputs) -> None:
        """Run the step on these inputs, which have the same shapes in each call.

        Raises:
            ConfigError: the step cannot be captured, and this is not optional.
        """
        if self._graph is None and self._calls == WARM_UP:
            self._capture(inputs)
        if self._graph is None:
            self._calls += 1
            default = torch.cuda.current_stream(self.device)
            self._stream.wait_stream(default)
            with torch.cuda.stream(self._stream):
                self.step(inputs)
            default.wait_stream(self._stream)
            return
        for static, fresh in zip(self._static, inputs, strict=True):
            for name, value in static.items():
                value.copy_(fresh[name])
        self._graph.replay()

    def _capture(self, inputs: Inputs) -> None:
        generator = torch.cuda.default_generators[self._stream.device_index]
        random_state = generator.clone_state()
        try:
            self._graph = self._captured(inputs)
        except ConfigError as error:
            if not self.optional:
                raise
            log.warning("warning: %s. Training goes on without a CUDA graph, which is slower", error)
            generator.graphsafe_set_state(random_state)  # the old one still counts as being captured
            self._static = []
            for optimizer in self.optimizers:
                optimizer.zero_grad()  # gradients in the memory of the graph

    def _captured(self, inputs: Inputs) -> torch.cuda.CUDAGraph:
        self._static = [{name: value.clone() for name, value in needed.items()} for needed in inputs]
        graph = torch.cuda.CUDAGraph()
        default = torch.cuda.current_stream(self.device)
        try:
            # The outer context restores the default stream, which a failed capture does not.
            # thread_local: the thread that prefetches batches may continue.
            with (
                torch.cuda.stream(default),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self.step(self._static)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0]  # ending a failed capture fails, too
            raise ConfigError(
                f"hardware.capture: an iteration of this model and objective cannot be captured ({reason}); "
                "hardware.capture=false runs it without a CUDA graph"
            ) from error
        log.info("the iteration was captured as a CUDA graph (hardware.capture=false runs it without one)")
        return graph
