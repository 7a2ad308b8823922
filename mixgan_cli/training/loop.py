"""The training loop: what an iteration does, in order.

An iteration has a host part and a device part. The host part sets the random seed and the gate's temperature, and
prepares the inputs (`read_inputs`): real images and scheduled values, as tensors on the device. The device part
(`make_step`) reads only these inputs and tensors that stay in place on the device, and never waits for the device. So
it can be captured once as a CUDA graph and replayed (`cuda_graph`). Callbacks run before the first iteration and after
each one: reports, samples, evaluations and checkpoints.
"""

from __future__ import annotations

import time
from contextlib import nullcontext

from mixgan_cli.config.schema import Training
from mixgan_cli.models.layers import passes_counted_together
from mixgan_cli.optim.optimizers import set_scheduled
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute
from mixgan_cli.runtime.random import seed_step
from mixgan_cli.runtime.signals import Interrupted, Interruptions
from mixgan_cli.training.callbacks import Callbacks
from mixgan_cli.training.checkpoint import State
from mixgan_cli.training.cuda_graph import Inputs, StepFn, maybe_capture
from mixgan_cli.training.phases import Phase, Scalars


def train(
    training: Training,
    seed: int,
    state: State,
    compute: Compute,
    callbacks: Callbacks,
    interruptions: Interruptions,
) -> None:
    """Train from the images that `state` has seen to `training.nimg`, or until an alarm ends the run.

    Raises:
        TrainingStopped: losses or gradients stay non-finite.
        Interrupted: a signal ended the run. The state is saved, unless the signal interrupted a critical section. The
            same command resumes the run.
    """
    progress, step = state.progress, maybe_capture(make_step(state), compute, state.phases.optimizers.values())
    # On the other ranks a signal waits until all ranks agree to end. On the main rank it also ends a drawing or an
    # evaluation.
    signals = nullcontext() if distributed.is_main() else interruptions.deferred()
    try:
        with signals:
            while True:
                callbacks.after_step(state, interruptions)
                if progress.nimg >= training.total_nimg or progress.ended:
                    return
                with interruptions.deferred():  # a first signal waits for the end of the iteration
                    iterate(state, seed, step)
                _end_if_agreed(state, callbacks, interruptions)
    except Interrupted as interrupted:
        if not interrupted.in_critical_section:
            with interruptions.deferred():
                callbacks.save(state)
        raise
    except distributed.PeerLost as lost:
        if interruptions.received:  # the other rank got it too, and ended at once, while drawing or evaluating
            raise Interrupted(interruptions.received, in_critical_section=True) from lost
        raise


def iterate(state: State, seed: int, step: StepFn | None = None) -> None:
    """Run one iteration.

    Args:
        state: everything that changes.
        seed: of the run. The random numbers of an iteration depend on it and on the iteration's number only.
        step: the device part: what `make_step` returns, captured or not. None: made for this iteration only.
    """
    progress, began = state.progress, time.monotonic()
    seed_step("step", seed, progress.step)
    if state.gate_schedule is not None:
        state.networks.generator.gate.anneal(state.gate_schedule.factor(progress.nimg, progress.step))
    with distributed.synchronized():  # ranks act as one: they share batches, gradients and batch norm statistics
        inputs = read_inputs(state)
        (step or make_step(state))(inputs)
    progress.nimg, progress.step = progress.nimg + state.phases.n_real, progress.step + 1
    progress.seconds += time.monotonic() - began


def read_inputs(state: State) -> Inputs:
    """Return the inputs of the device part, tensors of any shape on the device.

    One entry for each step of each phase, in order, then the factors of the optimisers' scheduled values (learning
    rates, β2) and the moving average's weight.
    """
    phases, nimg, iteration = state.phases, state.progress.nimg, state.progress.step
    inputs, nimg_so_far = [], nimg
    for phase in phases:
        for _ in range(phase.steps):
            inputs.append(phase.inputs(nimg_so_far, iteration))
            nimg_so_far += phase.n_real
    return [
        *inputs,
        phases.optimizer_factors(nimg, iteration),
        {"weight": state.ema.weight(nimg_so_far, nimg_so_far - nimg, iteration)},
    ]


def make_step(state: State) -> StepFn:
    """Return the device part of an iteration, a function of what `read_inputs` returns."""
    discriminator, generator, gate = state.phases.discriminator, state.phases.generator, state.phases.gate
    reuse_latents, optimizers = state.phases.reuse_latents, state.phases.optimizers

    def step(inputs: Inputs) -> None:
        *phase_inputs, optimizer_factors, moving_average = inputs
        n = discriminator.steps
        discriminator_inputs, other_inputs = phase_inputs[:n], iter(phase_inputs[n:])

        # 0. Scheduled learning rates and decay rates, and weights in bfloat16 of what was loaded or trained before.
        for name, factor in optimizer_factors.items():
            optimizer, what = name.split("/")
            set_scheduled(optimizers[optimizer], what, factor)
        if discriminator.context.bf16_weights:
            discriminator.context.bf16_weights.refresh()

        with passes_counted_together():
            # 1. The discriminator's steps, each on a batch of real images and as many fresh generated ones as
            # configured.
            for batch_inputs in discriminator_inputs:
                scalars, latent_BZ = discriminator.step(batch_inputs)
                finish(discriminator, scalars)

            # 2. The generator's step: adversarial loss and terms, such as diversity.
            finish(generator, generator.step(next(other_inputs), latent_BZ if reuse_latents else None))

            # 3. The gate's own step: terms of the gate, such as MEGAN's load balance.
            if gate:
                finish(gate, gate.step(next(other_inputs)))

        # 4. The moving average of the generator follows, and the strength of an adaptive augmentation.
        state.ema.update(state.networks.generator, moving_average["weight"])
        if discriminator.context.controller:
            discriminator.context.controller.adapt()

    def finish(phase: Phase, scalars: Scalars) -> None:
        state.means.add(scalars)  # on the device; read once per report
        for optimizer in phase.optimizers.values():
            optimizer.zero_grad()  # free the memory of gradients while the other networks take their steps

    return step


AGREE_EVERY = 10
"""Iterations between two agreements of several ranks on whether to end. Each waits for the slowest rank.

They also agree after each check of the alarms, so that an alarm ends a run at the same iteration on any number of them.
"""
ALARM = 1
"""A rank's vote to end the run because of an alarm. Other votes are 0, to continue, and ALARM + the number of a signal.

The largest vote decides: a signal comes before an alarm.
"""


def _end_if_agreed(state: State, callbacks: Callbacks, interruptions: Interruptions) -> None:
    """End the run on all ranks if one of them received a signal or has an alarm that ends it.

    Raises:
        Interrupted: a rank received a signal.
    """
    progress = state.progress
    if distributed.world_size() > 1 and progress.step % AGREE_EVERY and not callbacks.alarms_due:
        return
    callbacks.alarms_due = False
    alarm = ALARM if callbacks.monitor.ends(progress) else 0
    received = interruptions.received
    vote = distributed.max_over_ranks(ALARM + received if received else alarm)
    progress.ended = vote == ALARM
    if vote > ALARM:
        raise Interrupted(vote - ALARM)
