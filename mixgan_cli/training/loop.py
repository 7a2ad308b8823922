"""One iteration, in two parts: what the host says, and what the device then does without asking it anything."""

from __future__ import annotations

import time
from contextlib import nullcontext

import torch

from mixgan_cli.config.schema import Run, Training
from mixgan_cli.data.batches import Flipped, Sharded
from mixgan_cli.data.dataset import Dataset
from mixgan_cli.models.networks import Networks
from mixgan_cli.optim.optimizers import build_schedule, set_learning_rate
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute
from mixgan_cli.runtime.random import derive_seed
from mixgan_cli.runtime.signals import Interrupted, Interruptions
from mixgan_cli.training.callbacks import Callbacks
from mixgan_cli.training.checkpoint import Progress, State
from mixgan_cli.training.cuda_graph import Inputs, StepFn, maybe_capture
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.phases import build_phases, learning_rate_factors, scheduled


def iterate(state: State, seed: int, step: StepFn | None = None) -> None:
    """Take one iteration: each phase's steps, and the moving average's.

    Args:
        state: of the run.
        seed: of the run.
        step: what `make_step` gives, or a recording of it (cuda_graph.py); None: the first.
    """
    progress, began = state.progress, time.monotonic()
    torch.manual_seed(derive_seed("step", seed, progress.step))
    if state.gate_schedule is not None:
        state.networks.generator.gate.anneal(state.gate_schedule.factor(progress.nimg, progress.step))
    with distributed.synchronized():
        inputs, nimg = [], progress.nimg
        for phase in state.phases:
            for _ in range(phase.steps):
                inputs.append(phase.inputs(nimg, progress.step))
                nimg += phase.n_real
        inputs.append(learning_rate_factors(state.phases, progress.nimg, progress.step))
        inputs.append((state.ema.weight(nimg, nimg - progress.nimg),))
        (step or make_step(state))(inputs)
    progress.nimg, progress.step = nimg, progress.step + 1
    progress.seconds += time.monotonic() - began


def make_step(state: State) -> StepFn:
    """Return the device's part of an iteration, a function of the steps' inputs alone."""
    steps = [phase for phase in state.phases for _ in range(phase.steps)]

    def step(inputs: Inputs) -> None:
        *of_steps, factors, weight = inputs
        for optimizer, factor in zip(scheduled(state.phases), factors, strict=True):
            set_learning_rate(optimizer, factor)
        for phase, needed in zip(steps, of_steps, strict=True):
            state.means.add(phase.step(*needed))
            for optimizer in phase.optimizers.values():
                optimizer.zero_grad()  # else gradients lie idle while the others take their steps
        state.ema.update(state.networks.generator, *weight)

    return step


def begin(settings: Run, networks: Networks, dataset: Dataset, compute: Compute) -> State:
    """Return the state before the first iteration, all of it where it computes.

    Raises:
        ConfigError: an expert's share of the batch is too small.
    """
    for network in networks:
        compute.place(network)
    compute.compile_(networks.generator.trunk, networks.discriminator.body)
    training = settings.training
    order = settings.seed if training.shuffle else None
    batches = dataset.batches(order, compute.device, settings.hardware.data_on)
    if training.flips:
        batches = Flipped(batches, settings.seed, compute.device)
    if distributed.world_size() > 1:
        batches = Sharded(batches, distributed.rank(), distributed.world_size())
    return State(
        networks,
        MovingAverage(networks.generator, training.ema_half_life_nimg, training.ema_ramp_up),
        build_phases(
            settings.objective,
            networks,
            batches,
            training.batch,
            compute,
            settings.model.beta,
            training.fakes,
            training.total_nimg,
        ),
        Progress(),
        settings.model_dump(mode="json"),
        dataset.describe(),
        gate_schedule=build_schedule(settings.model.gate, training.total_nimg),
    )


ASK_EVERY = 10
"""Iterations after which several ranks ask each other whether to end: to ask is to wait for the slowest."""
EARLY = 1
"""What a rank says that wants to end early for an alarm; else the number of the signal it received, or 0."""


def train(
    training: Training,
    seed: int,
    state: State,
    compute: Compute,
    callbacks: Callbacks,
    interruptions: Interruptions,
) -> None:
    """Train from wherever `state` is to `training.nimg` images, or to an alarm that ends the run.

    Raises:
        TrainingStopped: losses or gradients stay not finite.
        Interrupted: a signal said to end; the state is saved, and the same run goes on from there.
    """
    progress, step = state.progress, maybe_capture(make_step(state), compute)
    # the other ranks end where all have agreed to; the main one also where it draws or measures, by itself
    others = nullcontext() if distributed.is_main() else interruptions.deferred()
    try:
        with others:
            while True:
                callbacks.after_step(state, interruptions)
                if progress.nimg >= training.total_nimg or progress.ended:
                    return
                with interruptions.deferred():
                    iterate(state, seed, step)
                if distributed.world_size() == 1 or progress.step % ASK_EVERY == 0:
                    wanted = distributed.max_over_ranks(
                        interruptions.received or (EARLY if callbacks.monitor.ends(progress) else 0)
                    )
                    progress.ended = wanted == EARLY
                    if wanted > EARLY:
                        raise Interrupted(wanted)
    except Interrupted as interrupted:
        if not interrupted.in_critical_section:
            with interruptions.deferred():
                callbacks.save(state)
        raise
    except distributed.PeerLost as lost:
        if interruptions.received:  # so was the other one, which did not have to wait: it was drawing or measuring
            raise Interrupted(interruptions.received, in_critical_section=True) from lost
        raise
