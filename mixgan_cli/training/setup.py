"""Everything that exists before the first iteration: networks on the device, batches, phases and moving average."""

from __future__ import annotations

import logging

from torch import nn

from mixgan_cli.config.components import build
from mixgan_cli.config.schema import Objective, Run
from mixgan_cli.data.batches import Batches, Dequantized, Flipped, Sharded
from mixgan_cli.data.dataset import Dataset, size_of
from mixgan_cli.data.images import to_float
from mixgan_cli.errors import ConfigError, DataError
from mixgan_cli.models.heads import Head
from mixgan_cli.models.layers import forward_frozen_bn
from mixgan_cli.models.networks import Discriminator, Networks, build_networks, check_memory
from mixgan_cli.objectives.terms import GateTerm, GeneratorTerm, Term
from mixgan_cli.objectives.unrolling import Unrolling
from mixgan_cli.optim.optimizers import build_optimizer, build_schedule
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute
from mixgan_cli.runtime.random import fork_seed
from mixgan_cli.training.bf16_weights import Bf16Weights
from mixgan_cli.training.checkpoint import Progress, State
from mixgan_cli.training.checks import check_networks, check_ranks, check_shape, fakes_per_step
from mixgan_cli.training.compiled_penalty import maybe_compile
from mixgan_cli.training.context import StepContext
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.phases import DiscriminatorPhase, GatePhase, GeneratorPhase, Phases
from mixgan_cli.training.unrolled import Unrolled

log = logging.getLogger("mixgan")

INITIAL = 500
"""Number of real samples that initialise a head (Salimans et al. 2016, released code)."""


def check_and_build(settings: Run, shape: tuple[int, ...]) -> Networks:
    """Check that model, objective and batch fit the samples, and build the networks on the CPU.

    Args:
        settings: the configuration.
        shape: shape of a sample, (C, H, W) or (2,).

    Raises:
        ConfigError: they do not fit, or the networks need more memory than there is.
    """
    check_shape(shape, settings.training, settings.objective)
    check_memory(settings.model, shape)
    with fork_seed("networks", settings.seed):  # on the CPU, so that initial weights are the same on every device
        networks = build_networks(settings.model, shape)
    check_networks(networks, settings.objective, settings.training.batch, settings.training.fakes)
    check_ranks(networks, settings.training, settings.objective, distributed.world_size())
    return networks


def check_training_set(dataset: Dataset, batch: int) -> None:
    """Check that the training set has at least one batch of images, and warn if the images are equal.

    Raises:
        DataError: it has fewer.
    """
    n = size_of(dataset, "train")
    if n is not None and n < batch:
        raise DataError(f"training.batch={batch}: the data set has only {n} images to train on")
    some = dataset.reals(64, seed=0, split="train")
    if len(some) > 1 and (some == some[0]).all():
        log.warning("warning: %d random training images are all equal, so there is nothing to learn", len(some))


def begin(settings: Run, networks: Networks, dataset: Dataset, compute: Compute) -> State:
    """Return the state before the first iteration, on the device.

    Raises:
        ConfigError: an expert's share of the batch is too small for batch norm.
    """
    initialise_head(networks.discriminator, dataset)  # on the CPU, so that initial weights are the same on every device
    for network in networks:
        compute.place(network)
    compute.compile_(networks.generator.trunk, networks.discriminator.body)
    training = settings.training
    order = settings.seed if training.shuffle else None
    batches = dataset.batches(order, compute.device, settings.hardware.data_on)
    if training.flips:
        batches = Flipped(batches, settings.seed, compute.device)
    if training.dequantize:
        batches = Dequantized(batches)
    if distributed.world_size() > 1:
        batches = Sharded(batches, distributed.rank(), distributed.world_size())
    return State(
        networks,
        MovingAverage(
            networks.generator,
            training.ema_half_life_nimg,
            training.ema_ramp_up,
            build(training.ema_schedule, nimg=training.total_nimg) if training.ema_schedule else None,
        ),
        build_phases(
            settings.objective, networks, batches, training.batch, compute, training.fakes, training.total_nimg
        ),
        Progress(),
        settings.model_dump(mode="json"),
        dataset.describe(),
        gate_schedule=build_schedule(settings.model.gate, training.total_nimg),
    )


def initialise_head(discriminator: Discriminator, dataset: Dataset) -> None:
    """Initialise the head from the features of INITIAL real samples, if its class needs them."""
    if type(discriminator.head).initialise_from is Head.initialise_from:
        return
    samples = dataset.reals(INITIAL, seed=0, split="train")
    samples = to_float(samples) if samples.dim() == 4 else samples.float()
    discriminator.head.initialise_from(forward_frozen_bn(discriminator.body, samples))


def build_phases(
    objective: Objective,
    networks: Networks,
    batches: Batches,
    batch: int,
    compute: Compute,
    fakes: int | None = None,
    nimg: int = 1,
) -> Phases:
    """Return the phases of an iteration.

    Args:
        objective: the configuration's objective group.
        networks: generator and discriminator.
        batches: real samples.
        batch: number of real samples per discriminator step.
        compute: where and how to compute.
        fakes: `training.fakes`, see `fakes_per_step`.
        nimg: length of the run in images, for schedules.

    Raises:
        ConfigError: an expert's share of the batch is too small for batch norm.
    """
    generator, discriminator = networks
    augment = build(objective.augment) if objective.augment else None
    if isinstance(augment, nn.Module):
        compute.place(augment)
    context = StepContext(
        networks,
        build(objective.adversarial),
        fakes_per_step(networks, objective, batch, fakes),
        compute,
        augment,
        {
            name: schedule
            for name, node in {"penalty": objective.penalty, "augment": objective.augment}.items()
            if node and (schedule := build_schedule(node, nimg))
        },
        generator.k if generator.gate.splits_batch and objective.fake_passes == "per_expert" else 1,
        batches,
        batch,
        objective.fakes == "per_expert",
        Bf16Weights(networks) if compute.precision == "bf16" else None,
    )
    terms = build_terms(objective, networks, nimg)
    of_generator = {name: term for name, term in terms.items() if isinstance(term, GeneratorTerm)}
    of_gate = {name: term for name, term in terms.items() if isinstance(term, GateTerm)}
    settings, own = objective.optimizer, generator.gate.own_parameters()
    gate = {"gate": build_optimizer(settings.gate, own, nimg)} if settings.gate else {}
    balance = {"balance": build_optimizer(settings.balance, own, nimg)} if of_gate and settings.balance else gate
    moved_by_gate = set(own) if gate else set()
    others = [parameter for parameter in generator.parameters() if parameter not in moved_by_gate]
    critic = DiscriminatorPhase(
        context,
        maybe_compile(build(objective.penalty), discriminator, compute, nimg // batch),
        generator.k if objective.fake_weight == "k" else 1,
        objective.classifier.weight,
        objective.classifier.scale,
        objective.classifier.stop_gradient,
        {"discriminator": build_optimizer(settings.discriminator, discriminator.parameters(), nimg)},
        objective.d_steps,
    )
    critic.one_pass = compute.device.type == "cuda" and critic.allows_one_pass  # on a CPU, there is no gain
    unrolling: Unrolling | None = build(objective.unroll) if objective.unroll else None
    return Phases(
        critic,
        GeneratorPhase(
            context,
            of_generator,
            {"generator": build_optimizer(settings.generator, others, nimg), **gate},
            objective.generator_fakes,
            unroll=Unrolled(critic, unrolling) if unrolling and unrolling.steps else None,
        ),
        GatePhase(context, of_gate, balance) if of_gate else None,
        objective.reuse_latents,
    )


def build_terms(objective: Objective, networks: Networks, nimg: int) -> dict[str, Term]:
    """Return the objective's terms by name, with their schedules. A generator's term of weight 0 is left out.

    Raises:
        ConfigError: a class is not a term of the generator or the gate.
    """
    terms: dict[str, Term] = {}
    given = {
        "k": networks.generator.k,
        "form": networks.discriminator.head.form,
        "scale": objective.classifier.scale,
    }
    for name, node in objective.terms.items():
        term: Term = build(node, **given)
        if not isinstance(term, GeneratorTerm | GateTerm):
            raise ConfigError(
                f"objective.terms.{name}: {type(term).__name__} must be a subclass of GeneratorTerm or GateTerm"
            )
        term.schedule = build_schedule(node, nimg)
        if term.weight or term.network == "gate":
            terms[name] = term
    return terms
