"""The phases of an iteration, and the checks that networks, objective and batch fit together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mixgan_cli.config.components import TARGET, attribute, build
from mixgan_cli.config.schema import Objective, Training
from mixgan_cli.data.batches import Batches
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.heads import DiscriminatorOutput
from mixgan_cli.models.networks import Networks
from mixgan_cli.objectives import diversity
from mixgan_cli.objectives.adversarial import Adversarial
from mixgan_cli.optim.optimizers import Optimizers, build_optimizer, build_schedule, schedule_of
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.step import SKIPPED, optimizer_step

log = logging.getLogger("mixgan")

FAKES_PER_NORMED_EXPERT = 12
"""Default number of samples per step of an expert with batch norm: MGGAN's (Hoang et al. 2017, released code)."""


def check_networks(networks: Networks, objective: Objective, batch: int, fakes: int | None) -> None:
    """Refuse what cannot be trained, and warn of what is known to train badly.

    Args:
        networks: the players.
        objective: the configuration's objective group.
        batch: real samples a step.
        fakes: generated ones; None: see `fakes_per_step`.

    Raises:
        ConfigError: a batch or an expert's share too small for batch norm; an optimiser with nothing to move.
    """
    generator, discriminator = networks
    fakes_per_step(networks, objective, batch, fakes)
    for key, wanted in {"optimizer.gate": objective.optimizer.gate, "balance": objective.balance}.items():
        if wanted and not generator.gate.own_parameters():
            raise ConfigError(f"objective.{key}: with model.k={generator.k} the gate learns nothing; take null")
    if any(isinstance(module, _BatchNorm) for module in discriminator.modules()):
        if batch < 2:
            raise ConfigError("training.batch=1: the discriminator has batch norm, and one image is no batch. Take 2")
        if attribute(objective.penalty[TARGET], "per_sample"):
            log.warning(
                "warning: a gradient penalty takes the discriminator for a function of one sample, and this one has "
                "batch norm (Gulrajani et al. 2017, section 4). model.backbone.discriminator_norm=layer, or none, mends"
            )


def check_shape(shape: tuple[int, ...], training: Training, objective: Objective) -> None:
    """Refuse on points what is for images alone.

    Args:
        shape: of one sample: (C, H, W) for images, (D,) for points.
        training: the configuration's training group.
        objective: its objective group.

    Raises:
        ConfigError: flips, or an augmentation of images, and the data are points.
    """
    if len(shape) == 3:
        return
    if training.flips:
        raise ConfigError("training.flips=true: points have no left and right. Take false, or a data set of images")
    if objective.augment and attribute(objective.augment[TARGET], "images_only"):
        name = objective.augment[TARGET].rpartition(".")[2]
        raise ConfigError(f"objective.augment: {name} is for images, and the data are points. Take null")


def check_ranks(networks: Networks, training: Training, objective: Objective, processes: int) -> None:
    """Refuse what cannot be shared out among so many processes.

    Raises:
        ConfigError: a batch, or an expert's share of the generated samples, that they do not divide.
    """
    generator = networks.generator
    fakes = fakes_per_step(networks, objective, training.batch, training.fakes)
    share = fakes // generator.k if generator.gate.splits_batch else fakes
    for key, n in {"training.batch": training.batch, "of the generated samples an expert's share": share}.items():
        if n % processes:
            raise ConfigError(
                f"{key}={n}: {processes} processes (hardware.devices × hardware.nodes) cannot share it equally. "
                f"Take a multiple of {processes}"
            )


def fakes_per_step(networks: Networks, objective: Objective, batch: int, fakes: int | None) -> int:
    """Return how many samples a step generates: for gates that share out the batch, equal shares.

    By default, as many as there are real ones; where experts with batch norm share them, at least
    FAKES_PER_NORMED_EXPERT for each expert.

    Raises:
        ConfigError: an expert's share, or the batch, is too small for batch norm.
    """
    generator = networks.generator
    gate, k = generator.gate, generator.k
    shared = gate.splits_batch and objective.fakes == "shared"
    if fakes is None:
        normed = shared and generator.experts.min_batch > 1
        fakes = max(batch, k * FAKES_PER_NORMED_EXPERT) if normed else batch
    share = fakes // k if shared else fakes
    least = max(generator.experts.min_batch, gate.min_batch)
    if share < least:
        raise ConfigError(
            f"model.k={k}: of {fakes} fakes a step an expert makes {share} and needs {least}, for batch norm. "
            "Raise training.batch or training.fakes"
            + (", or take objective.fakes=per_expert" if gate.splits_batch else "")
        )
    return share * k if gate.splits_batch else share


class Phase(Protocol):
    """A step of one player."""

    optimizers: Optimizers
    """That it moves, by name; two phases may share one."""
    steps: int
    """How many in a row, in each iteration."""

    @property
    def n_real(self) -> int:
        """Number of real images that a step shows to the discriminator."""

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return what a step after `nimg` real images and `iteration` iterations takes, of any shape, on the device."""

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step on its `inputs`, whatever their shape.

        Returns scalars to log, still on the device; SKIPPED is 1 where the step was left out, else 0.
        """


@dataclass
class StepContext:
    """What the phases share: the players, what they play for, and with which samples."""

    networks: Networks
    adversarial: Adversarial
    beta: float
    scale: diversity.Scale
    fakes: int
    """How many samples all ranks generate a step."""
    compute: Compute
    reuse_latents: bool
    augment: Callable[[Tensor], Tensor] | None
    """What happens to samples before the discriminator sees them, if anything."""
    latent_BZ: Tensor | None = None
    """Of the last discriminator step, where the generator's reuses them."""

    def latents(self) -> Tensor:
        """Draw latents for a step [B, Z]: those of this rank."""
        return self.networks.generator.latents(self.fakes // distributed.sync_size())

    def augmented(self, samples: Tensor) -> Tensor:
        """Return samples [N, …] as the discriminator gets them, augmented or as they are."""
        return samples if self.augment is None else self.augment(samples)

    def classifier_loss(self, answer: DiscriminatorOutput, weights_BK: Tensor) -> Tensor | None:
        """Return the diversity term on generated samples, without beta, a scalar; without a classifier, None."""
        if answer.expert_logits_NL is None:
            return None
        return diversity.term(self.form, self.scale, answer.expert_logits_NL, weights_BK)

    @property
    def form(self) -> str:
        """How the discriminator's head tells experts apart, if it does."""
        return self.networks.discriminator.head.form


@dataclass
class DiscriminatorPhase:
    """Minimises adversarial loss, classifier's loss and penalty, over the discriminator. Real and fake pass apart."""

    context: StepContext
    penalty: Any
    fake_weight: float
    classifier_weight: float
    detach_features: bool
    batches: Batches
    batch: int
    optimizers: Optimizers
    steps: int

    @property
    def n_real(self) -> int:
        """Number of real images that a step shows to the discriminator, on all ranks."""
        return self.batch

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return fresh reals [N, …]."""
        return (self.batches.get_batch(nimg, self.batch),)

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step on these reals [N, …] and fresh latents. Returns scalars."""
        context, (generator, _) = self.context, self.context.networks
        real = context.augmented(*inputs)
        latent_BZ = context.latents()
        context.latent_BZ = latent_BZ if context.reuse_latents else None
        with torch.no_grad(), context.compute.autocast():
            samples, weights_BK = generator(latent_BZ)
            fake = context.augmented(samples)
        scalars: dict[str, Tensor] = {}
        loss, skipped = optimizer_step(self._terms(real, fake, weights_BK, scalars), self.optimizers)
        return {"loss/discriminator": loss, **scalars, SKIPPED: skipped}

    def _terms(self, real: Tensor, fake: Tensor, weights_BK: Tensor, scalars: dict[str, Tensor]) -> Iterator[Tensor]:
        """Compute the loss's terms as they are asked for, and what there is to log."""
        context, discriminator = self.context, self.context.networks.discriminator
        with context.compute.autocast():
            answer = _full(discriminator(real))
        scalars["score/real"] = answer.scores_N.mean()
        yield context.adversarial.real(answer.scores_N)
        with context.compute.autocast():
            answer = _full(discriminator(fake, self.detach_features))
        scalars["score/fake"] = answer.scores_N.mean()
        loss = context.adversarial.fake(answer.scores_N)
        classifier = context.classifier_loss(answer, weights_BK)
        if classifier is not None:
            scalars["loss/classifier"] = classifier
            if answer.expert_logits_NL is not None and context.form == "general":
                scalars["jsd_experts"] = diversity.jsd(answer.expert_logits_NL.detach(), weights_BK)
            loss = loss + self.classifier_weight * classifier
        yield self.fake_weight * loss
        # outside autocast: it squares a gradient. Between samples as the discriminator gets them: it compares those
        with torch.compiler.set_stance("force_eager"):  # what is compiled has no second derivative
            penalty = self.penalty(lambda samples: discriminator(samples).scores_N, real, fake.to(real.dtype))
        if penalty is not None:
            scalars["loss/penalty"] = penalty
            yield penalty


@dataclass
class GeneratorPhase:
    """Minimises adversarial loss plus beta times diversity, over the generator: gate, experts and what they share."""

    context: StepContext
    competition: Any
    optimizers: Optimizers
    steps: int = 1
    n_real: int = 0

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return nothing, for its latents [B, Z] are drawn in the step."""
        return ()

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step, on fresh latents [B, Z] or the discriminator's last. Returns scalars."""
        context, (generator, discriminator) = self.context, self.context.networks
        latent_BZ = context.latents() if context.latent_BZ is None else context.latent_BZ
        with frozen(discriminator):
            with context.compute.autocast():
                fakes = generator(latent_BZ)
                answer = discriminator(context.augmented(fakes.samples))
            answer = _full(answer)
            loss = context.adversarial.generator(answer.scores_N)
            scalars = {}
            diversity_loss = context.classifier_loss(answer, fakes.weights_BK) if context.beta else None
            if diversity_loss is not None:
                scalars["loss/diversity"] = diversity_loss
                loss = loss + context.beta * diversity_loss
            if self.competition is not None:
                scalars["loss/competition"] = self.competition(answer.scores_N, answer.features_NF, generator.k)
                loss = loss + scalars["loss/competition"]
            loss, skipped = optimizer_step([loss], self.optimizers)
        return {"loss/generator": loss, **scalars, SKIPPED: skipped}


@dataclass
class BalancePhase:
    """Minimises the load balance over the gate alone, on fresh latents (MEGAN)."""

    context: StepContext
    balance: Any
    optimizers: Optimizers
    schedule: Schedule | None
    steps: int = 1
    n_real: int = 0

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return the balance's weight at this time, a scalar."""
        factor = self.schedule.factor(nimg, iteration) if self.schedule else 1.0
        return (next(self.context.networks.generator.parameters()).new_full((), self.balance.weight * factor),)

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step on fresh latents [B, Z], the balance having this weight, a scalar. Returns scalars."""
        (weight,) = inputs
        generator = self.context.networks.generator
        with frozen(generator.stem), frozen(generator.experts):
            loss = weight * self.balance(*generator.weights(self.context.latents()))
            loss, skipped = optimizer_step([loss], self.optimizers)
        return {"loss/balance": loss, SKIPPED: skipped}


def build_phases(
    objective: Objective,
    networks: Networks,
    batches: Batches,
    batch: int,
    compute: Compute,
    beta: float = 0.0,
    fakes: int | None = None,
    nimg: int = 1,
) -> Sequence[Phase]:
    """Return the phases of an iteration, in order.

    Args:
        objective: the configuration's objective group.
        networks: the players.
        batches: real samples.
        batch: how many of them a step takes.
        compute: where and how to compute.
        beta: weight of the diversity term, generators' side.
        fakes: samples generated a step, before the experts' shares are made equal; None: see `fakes_per_step`.
        nimg: length of the run in images, for schedules.

    Raises:
        ConfigError: an expert's share of the batch is too small.
    """
    generator, discriminator = networks
    context = StepContext(
        networks,
        build(objective.adversarial),
        beta,
        objective.classifier.scale,
        fakes_per_step(networks, objective, batch, fakes),
        compute,
        objective.reuse_latents,
        build(objective.augment) if objective.augment else None,
    )
    settings = objective.optimizer
    gate = {"gate": build_optimizer(settings.gate, generator.gate.own_parameters(), nimg)} if settings.gate else {}
    apart = set(generator.gate.own_parameters()) if gate else set()
    of_generator = build_optimizer(settings.generator, (p for p in generator.parameters() if p not in apart), nimg)
    phases: list[Phase] = [
        DiscriminatorPhase(
            context,
            build(objective.penalty),
            generator.k if objective.fake_weight == "k" else 1,
            objective.classifier.weight,
            objective.classifier.stop_gradient,
            batches,
            batch,
            {"discriminator": build_optimizer(settings.discriminator, discriminator.parameters(), nimg)},
            objective.d_steps,
        ),
        GeneratorPhase(
            context,
            build(objective.competition) if objective.competition else None,
            {"generator": of_generator, **gate},
        ),
    ]
    if objective.balance:
        own = gate
        if settings.balance:
            own = {"balance": build_optimizer(settings.balance, generator.gate.own_parameters(), nimg)}
        phases.append(BalancePhase(context, build(objective.balance), own, build_schedule(objective.balance, nimg)))
    return phases


def optimizers_of(phases: Sequence[Phase]) -> dict[str, torch.optim.Optimizer]:
    """Return every optimiser, by name."""
    return {name: optimizer for phase in phases for name, optimizer in phase.optimizers.items()}


def scheduled(phases: Sequence[Phase]) -> list[torch.optim.Optimizer]:
    """Return the optimisers whose learning rate has a schedule."""
    return [optimizer for optimizer in optimizers_of(phases).values() if schedule_of(optimizer)]


def learning_rate_factors(phases: Sequence[Phase], nimg: int, iteration: int) -> tuple[Tensor, ...]:
    """Return the factor of each scheduled learning rate after `nimg` images and `iteration` iterations, as tensors."""
    return tuple(
        optimizer.param_groups[0]["lr"].new_tensor(optimizer.schedule.factor(nimg, iteration))  # type: ignore[attr-defined]
        for optimizer in scheduled(phases)
    )


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's own parameters inside: the step of another does not need them."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _full(answer: DiscriminatorOutput) -> DiscriminatorOutput:
    """What autocast computed in bfloat16, in float32; anything else as it is."""

    def full(values: Tensor) -> Tensor:
        return values.float() if values.dtype == torch.bfloat16 else values

    scores_N, logits_NL, features_NF = answer
    return DiscriminatorOutput(full(scores_N), None if logits_NL is None else full(logits_NL), full(features_NF))
