"""One iteration, in two parts: what the host says, and what the device then does without asking it anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mixgan_cli import ranks
from mixgan_cli.randomness import key
from mixgan_cli.training.checkpoint import State

Inputs = Sequence[tuple[Tensor, ...]]
"""What each of an iteration's steps takes, and last the moving average's weight; on the device."""
Move = Callable[[Inputs], None]
"""The device's part."""


def iterate(state: State, seed: int, move: Move | None = None) -> None:
    """Take one iteration: each phase's steps, and the moving average's.

    Args:
        state: of the run.
        seed: of the run.
        move: what `moving` gives, or a recording of it (capture.py); None: the first.
    """
    progress, began = state.progress, time.monotonic()
    torch.manual_seed(key("step", seed, progress.step))
    state.networks.generator.gate.anneal(progress.step)
    with ranks.together():
        inputs, nimg = [], progress.nimg
        for phase in state.phases:
            for _ in range(phase.steps):
                inputs.append(phase.inputs(nimg, progress.step))
                nimg += phase.shows
        inputs.append((state.ema.weight(nimg, nimg - progress.nimg),))
        (move or moving(state))(inputs)
    progress.nimg, progress.step = nimg, progress.step + 1
    progress.seconds += time.monotonic() - began


def moving(state: State) -> Move:
    """Return the device's part of an iteration, a function of the steps' inputs alone."""
    steps = [phase for phase in state.phases for _ in range(phase.steps)]

    def move(inputs: Inputs) -> None:
        for phase, needed in zip(steps, inputs[:-1], strict=True):
            state.means.add(phase.step(*needed))
            for optimizer in phase.optimizers.values():
                optimizer.zero_grad()  # else gradients lie idle while the others take their steps
        state.ema.update(state.networks.generator, *inputs[-1])

    return move
