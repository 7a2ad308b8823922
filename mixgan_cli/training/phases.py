"""Phases: one optimiser's step each. An iteration is the discriminator's steps, the generator's, and the balance's.

A phase draws its own latents, makes its loss, and moves its own network. The loop knows nothing else of them. What the
host has to say to a step is in its `inputs`; the step is a function of these and of what lies on the device, and reads
no number of the host's that changes. So it can be recorded once and repeated (capture.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mixgan_cli import ranks
from mixgan_cli.config import Objective
from mixgan_cli.data.batches import Batches
from mixgan_cli.hardware import Compute
from mixgan_cli.models.build import Networks
from mixgan_cli.models.discriminator import Answer
from mixgan_cli.objectives import diversity
from mixgan_cli.objectives.adversarial import Adversarial
from mixgan_cli.parts import build
from mixgan_cli.training.descent import Optimizers, adam, descend
from mixgan_cli.training.rules import fakes_a_step
from mixgan_cli.training.statistics import SKIPPED


class Phase(Protocol):
    """A step of one player."""

    optimizers: Optimizers
    """That it moves, by name; two phases may share one."""
    steps: int
    """How many in a row, in each iteration."""

    @property
    def shows(self) -> int:
        """How many real images a step shows to the discriminator."""

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return what a step after `nimg` real images and `iteration` iterations takes, of any shape, on the device."""

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step on its `inputs`, whatever their shape.

        Returns scalars to log, still on the device; SKIPPED is 1 where the step was left out, else 0.
        """


@dataclass
class Game:
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
        return self.networks.generator.latents(self.fakes // ranks.joined())

    def judged(self, samples: Tensor) -> Tensor:
        """Return samples [N, …] as the discriminator gets them, augmented or as they are."""
        return samples if self.augment is None else self.augment(samples)

    def classifier_loss(self, answer: Answer, weights_BK: Tensor) -> Tensor | None:
        """Return the diversity term on generated samples, without beta, a scalar; without a classifier, None."""
        if answer.experts_NL is None:
            return None
        return diversity.term(self.form, self.scale, answer.experts_NL, weights_BK)

    @property
    def form(self) -> str:
        """How the discriminator's head tells experts apart, if it does."""
        return self.networks.discriminator.head.form


@dataclass
class DiscriminatorPhase:
    """Minimises adversarial loss, classifier's loss and penalty, over the discriminator. Real and fake pass apart."""

    game: Game
    penalty: Any
    fake_weight: float
    classifier_weight: float
    isolated: bool
    batches: Batches
    batch: int
    optimizers: Optimizers
    steps: int

    @property
    def shows(self) -> int:
        """How many real images a step shows to the discriminator, on all ranks."""
        return self.batch

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return fresh reals [N, …]."""
        return (self.batches.at(nimg, self.batch),)

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step on these reals [N, …] and fresh latents. Returns scalars."""
        game, (generator, _) = self.game, self.game.networks
        real = game.judged(*inputs)
        latent_BZ = game.latents()
        game.latent_BZ = latent_BZ if game.reuse_latents else None
        with torch.no_grad(), game.compute.autocast():
            samples, weights_BK = generator(latent_BZ)
            fake = game.judged(samples)
        scalars: dict[str, Tensor] = {}
        loss, skipped = descend(self._terms(real, fake, weights_BK, scalars), self.optimizers)
        return {"loss/discriminator": loss, **scalars, SKIPPED: skipped}

    def _terms(self, real: Tensor, fake: Tensor, weights_BK: Tensor, scalars: dict[str, Tensor]) -> Iterator[Tensor]:
        """Compute the loss's terms as they are asked for, and what there is to log."""
        game, discriminator = self.game, self.game.networks.discriminator
        with game.compute.autocast():
            answer = _full(discriminator(real))
        scalars["score/real"] = answer.score_N.mean()
        yield game.adversarial.real(answer.score_N)
        with game.compute.autocast():
            answer = _full(discriminator(fake, self.isolated))
        scalars["score/fake"] = answer.score_N.mean()
        loss = game.adversarial.fake(answer.score_N)
        classifier = game.classifier_loss(answer, weights_BK)
        if classifier is not None:
            scalars["loss/classifier"] = classifier
            if answer.experts_NL is not None and game.form == "general":
                scalars["jsd_experts"] = diversity.jsd(answer.experts_NL.detach(), weights_BK)
            loss = loss + self.classifier_weight * classifier
        yield self.fake_weight * loss
        # outside autocast: it squares a gradient. Between samples as the discriminator gets them: it compares those
        with torch.compiler.set_stance("force_eager"):  # what is compiled has no second derivative
            penalty = self.penalty(lambda samples: discriminator(samples).score_N, real, fake.to(real.dtype))
        if penalty is not None:
            scalars["loss/penalty"] = penalty
            yield penalty


@dataclass
class GeneratorPhase:
    """Minimises adversarial loss plus beta times diversity, over the generator: gate, experts and what they share."""

    game: Game
    competition: Any
    optimizers: Optimizers
    steps: int = 1
    shows: int = 0

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return nothing, for its latents [B, Z] are drawn in the step."""
        return ()

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step, on fresh latents [B, Z] or the discriminator's last. Returns scalars."""
        game, (generator, discriminator) = self.game, self.game.networks
        latent_BZ = game.latents() if game.latent_BZ is None else game.latent_BZ
        with frozen(discriminator):
            with game.compute.autocast():
                fakes = generator(latent_BZ)
                answer = discriminator(game.judged(fakes.samples))
            answer = _full(answer)
            loss = game.adversarial.generator(answer.score_N)
            scalars = {}
            alike = game.classifier_loss(answer, fakes.weights_BK) if game.beta else None
            if alike is not None:
                scalars["loss/diversity"] = alike
                loss = loss + game.beta * alike
            if self.competition is not None:
                scalars["loss/competition"] = self.competition(answer.score_N, answer.features_NF, generator.k)
                loss = loss + scalars["loss/competition"]
            loss, skipped = descend([loss], self.optimizers)
        return {"loss/generator": loss, **scalars, SKIPPED: skipped}


@dataclass
class BalancePhase:
    """Minimises the load balance over the gate alone, on fresh latents (MEGAN)."""

    game: Game
    balance: Any
    optimizers: Optimizers
    steps: int = 1
    shows: int = 0

    def inputs(self, nimg: int, iteration: int) -> tuple[Tensor, ...]:
        """Return the balance's weight at this time, a scalar."""
        return (next(self.game.networks.generator.parameters()).new_full((), self.balance.weight.at(iteration)),)

    def step(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Take one step on fresh latents [B, Z], the balance having this weight, a scalar. Returns scalars."""
        (weight,) = inputs
        generator = self.game.networks.generator
        with frozen(generator.stem), frozen(generator.experts):
            loss = weight * self.balance(*generator.weigh(self.game.latents()))
            loss, skipped = descend([loss], self.optimizers)
        return {"loss/balance": loss, SKIPPED: skipped}


def build_phases(
    objective: Objective,
    networks: Networks,
    batches: Batches,
    batch: int,
    compute: Compute,
    beta: float = 0.0,
    fakes: int | None = None,
) -> Sequence[Phase]:
    """Return the phases of an iteration, in order.

    Args:
        objective: the configuration's objective group.
        networks: the players.
        batches: real samples.
        batch: how many of them a step takes.
        compute: where and how to compute.
        beta: weight of the diversity term, generators' side.
        fakes: samples generated a step, before the experts' shares are made equal; None: see `fakes_a_step`.

    Raises:
        ConfigError: an expert's share of the batch is too small.
    """
    generator, discriminator = networks
    game = Game(
        networks,
        build(objective.adversarial),
        beta,
        objective.classifier.scale,
        fakes_a_step(networks, objective, batch, fakes),
        compute,
        objective.reuse_latents,
        build(objective.augment) if objective.augment else None,
    )
    settings = objective.optimizer
    gate = {"gate": adam(generator.gate.moving(), settings.gate)} if settings.gate else {}
    apart = set(generator.gate.moving()) if gate else set()
    of_generator = adam([p for p in generator.parameters() if p not in apart], settings.generator)
    phases: list[Phase] = [
        DiscriminatorPhase(
            game,
            build(objective.penalty),
            generator.k if objective.fake_weight == "k" else 1,
            objective.classifier.weight,
            objective.classifier.stop_gradient,
            batches,
            batch,
            {"discriminator": adam(discriminator.parameters(), settings.discriminator)},
            objective.d_steps,
        ),
        GeneratorPhase(
            game,
            build(objective.competition) if objective.competition else None,
            {"generator": of_generator, **gate},
        ),
    ]
    if objective.balance:
        own = {"balance": adam(generator.gate.moving(), settings.balance)} if settings.balance else gate
        phases.append(BalancePhase(game, build(objective.balance), own))
    return phases


def optimizers_of(phases: Sequence[Phase]) -> dict[str, torch.optim.Optimizer]:
    """Return every optimiser, by name."""
    return {name: optimizer for phase in phases for name, optimizer in phase.optimizers.items()}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's own parameters inside: the step of another does not need them."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _full(answer: Answer) -> Answer:
    """What autocast computed in bfloat16, in float32; anything else as it is."""

    def full(values: Tensor) -> Tensor:
        return values.float() if values.dtype == torch.bfloat16 else values

    score_N, experts_NL, features_NF = answer
    return Answer(full(score_N), None if experts_NL is None else full(experts_NL), full(features_NF))
