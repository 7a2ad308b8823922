"""Phases: one optimiser's step each. An iteration is the discriminator's steps, then the generator's.

A phase draws its own latents, makes its loss, and moves its own network. The loop knows nothing else of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mixgan_cli.config import Adam, Objective
from mixgan_cli.data.batches import Batches
from mixgan_cli.hardware import Compute
from mixgan_cli.models.build import Networks
from mixgan_cli.parts import build


class Phase(Protocol):
    """One optimiser's step."""

    name: str
    optimizer: torch.optim.Optimizer
    steps: int
    """How many in a row, in each iteration."""

    @property
    def shows(self) -> int:
        """How many real images a step shows to the discriminator."""

    def step(self, nimg: int) -> dict[str, Tensor]:
        """Take one step, after `nimg` real images; return scalars to log, still on the device."""


@dataclass
class DiscriminatorPhase:
    """Minimises adversarial loss plus penalty, over the discriminator's parameters. Real and fake pass apart."""

    networks: Networks
    adversarial: Any
    penalty: Any
    batches: Batches
    batch: int
    compute: Compute
    optimizer: torch.optim.Optimizer
    steps: int
    name: str = "discriminator"

    @property
    def shows(self) -> int:
        """How many real images a step shows to the discriminator."""
        return self.batch

    def step(self, nimg: int) -> dict[str, Tensor]:
        """Take one step on fresh reals and fresh latents."""
        generator, discriminator = self.networks
        real = self.batches.at(nimg, self.batch)
        with self.compute.autocast():
            with torch.no_grad():
                fake = generator(generator.latents(self.batch)).samples
            real_score, fake_score = _full(discriminator(real)), _full(discriminator(fake))
        loss = self.adversarial.discriminator(real_score, fake_score)
        scalars = {"score/real": real_score.mean(), "score/fake": fake_score.mean()}
        penalty = self.penalty(discriminator, real, _full(fake))  # outside autocast: it squares a gradient
        if penalty is not None:
            loss = loss + penalty
            scalars["loss/penalty"] = penalty
        _descend(loss, self.optimizer)
        return {"loss/discriminator": loss, **scalars}


@dataclass
class GeneratorPhase:
    """Minimises the adversarial loss over all of the generator's parameters: gate, experts and trunk."""

    networks: Networks
    adversarial: Any
    batch: int
    compute: Compute
    optimizer: torch.optim.Optimizer
    steps: int = 1
    shows: int = 0
    name: str = "generator"

    def step(self, nimg: int) -> dict[str, Tensor]:
        """Take one step on fresh latents."""
        generator, discriminator = self.networks
        with _frozen(discriminator):
            with self.compute.autocast():
                score = discriminator(generator(generator.latents(self.batch)).samples)
            loss = self.adversarial.generator(_full(score))
            _descend(loss, self.optimizer)
        return {"loss/generator": loss}


def build_phases(
    objective: Objective, networks: Networks, batches: Batches, batch: int, compute: Compute
) -> Sequence[Phase]:
    """Return the phases of an iteration, in order."""
    adversarial, penalty = build(objective.adversarial), build(objective.penalty)
    of_discriminator = adam(networks.discriminator, objective.optimizer.discriminator)
    of_generator = adam(networks.generator, objective.optimizer.generator)
    steps = objective.d_steps
    return (
        DiscriminatorPhase(networks, adversarial, penalty, batches, batch, compute, of_discriminator, steps),
        GeneratorPhase(networks, adversarial, batch, compute, of_generator),
    )


def adam(network: nn.Module, settings: Adam) -> torch.optim.Adam:
    """Return Adam over a network's parameters."""
    return torch.optim.Adam(network.parameters(), lr=settings.lr, betas=settings.betas, amsgrad=settings.amsgrad)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the network's own parameters inside: the generator's step does not need them."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _full(values: Tensor) -> Tensor:
    """What autocast computed in bfloat16, in float32; anything else as it is."""
    return values.float() if values.dtype == torch.bfloat16 else values


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
