"""The phases of an iteration: the steps of discriminator, generator and gate. `loop` runs them in order.

A phase has two parts. `inputs` runs on the host: it returns everything in which this step differs from the last one
(real images, scheduled values), as tensors on the device. `step` reads nothing else that changes, so that it can be
captured in a CUDA graph and replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mixgan_cli.data.batches import Batches
from mixgan_cli.models.heads import DiscriminatorOutput
from mixgan_cli.models.networks import Networks
from mixgan_cli.objectives import diversity
from mixgan_cli.objectives.adversarial import Adversarial
from mixgan_cli.objectives.terms import GateTerm, GeneratedBatch, GeneratorTerm, Term
from mixgan_cli.optim.optimizers import Optimizers, schedule_of
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute
from mixgan_cli.runtime.random import uniform
from mixgan_cli.training.step import SKIPPED, optimizer_step

Scalars = dict[str, Tensor]
"""Values to log, on the device. SKIPPED is 1 where the step was skipped, else 0."""


class Phase(Protocol):
    """The steps of one network in an iteration. Each phase also has `step`, with arguments and a result of its own."""

    optimizers: Optimizers
    """By name; two phases may share one."""
    steps: int
    """Number of steps per iteration."""

    @property
    def n_real(self) -> int:
        """Number of real images that a step shows to the discriminator, over all ranks together."""

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the inputs of the next step after `nimg` images and `iteration` iterations: tensors of any shape."""


@dataclass(frozen=True)
class StepContext:
    """What all phases share."""

    networks: Networks
    adversarial: Adversarial
    fakes: int
    """Number of samples that all ranks generate per step."""
    compute: Compute
    augment: Callable[[Tensor], Tensor] | None
    """Applied to all samples before the discriminator sees them."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """Schedules of the penalty's weight (`penalty`) and of the probability that a sample is augmented (`augment`)."""
    fake_parts: int = 1
    """Number of equal parts of the generated samples that pass through the discriminator one after the other."""

    def latents(self) -> Tensor:
        """Draw this rank's latents for a step, [B, Z]."""
        return self.networks.generator.latents(self.fakes // distributed.sync_size())

    def augmented(self, samples: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return samples [N, …] as the discriminator sees them; with a schedule, each is augmented at random."""
        if self.augment is None:
            return samples
        if "factor/augment" not in inputs:
            return self.augment(samples)
        chosen = uniform(len(samples), *[1] * (samples.dim() - 1), device=samples.device) < inputs["factor/augment"]
        return torch.where(chosen, self.augment(samples), samples)

    def inputs(self, terms: Mapping[str, Term], nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return scheduled values, scalars on the device: weights of terms by name, `schedules` as `factor/NAME`."""
        values = {f"factor/{name}": schedule.factor(nimg, iteration) for name, schedule in self.schedules.items()}
        for name, term in terms.items():
            if term.schedule:
                values[name] = term.weight * term.schedule.factor(nimg, iteration)
        parameter = next(self.networks.generator.parameters())
        return {name: parameter.new_full((), value) for name, value in values.items()}


class DiscriminatorStep(NamedTuple):
    """What a discriminator step returns."""

    scalars: Scalars
    latent_BZ: Tensor
    """The latents of its generated samples, which the generator's step may use again."""


@dataclass
class DiscriminatorPhase:
    """Minimises adversarial loss, loss of the classifier of experts and penalty, over the discriminator.

    Real and generated samples pass through the discriminator separately: batch norm does not mix them. The same holds
    for those of different experts if the context has several `fake_parts`.
    """

    context: StepContext
    penalty: Any
    fake_weight: float
    """Weight of all losses on generated samples."""
    classifier_weight: float
    scale: diversity.Scale
    detach_features: bool
    """If true, the classifier of experts does not train the body."""
    batches: Batches
    batch: int
    optimizers: Optimizers
    steps: int

    @property
    def n_real(self) -> int:
        """Number of real images that a step shows to the discriminator, over all ranks together."""
        return self.batch

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the next batch of real samples [N, …], and scheduled factors, scalars."""
        return {"real": self.batches.get_batch(nimg, self.batch), **self.context.inputs({}, nimg, iteration)}

    def step(self, inputs: Mapping[str, Tensor]) -> DiscriminatorStep:
        """Take one step on the real samples in `inputs` [N, …] and on fresh latents."""
        context, (generator, _) = self.context, self.context.networks
        real = context.augmented(inputs["real"], inputs)
        latent_BZ = context.latents()
        with torch.no_grad(), context.compute.autocast():
            samples, weights_BK = generator(latent_BZ)
            fake = context.augmented(samples, inputs)
        scalars: Scalars = {}
        losses = self._losses(real, fake, weights_BK, scalars, inputs.get("factor/penalty"))
        loss, skipped = optimizer_step(losses, self.optimizers)
        return DiscriminatorStep({"loss/discriminator": loss, **scalars, SKIPPED: skipped}, latent_BZ)

    def _losses(
        self, real: Tensor, fake: Tensor, weights_BK: Tensor, scalars: Scalars, penalty_factor: Tensor | None
    ) -> Iterator[Tensor]:
        """Yield the loss term by term; each is differentiated before the next is computed. Add values to `scalars`."""
        context, discriminator = self.context, self.context.networks.discriminator
        with context.compute.autocast():
            output = _float32(discriminator(real))
        scalars["score/real"] = output.scores_N.mean()
        yield context.adversarial.real(output.scores_N)
        with context.compute.autocast():
            output = _float32(discriminator(fake, self.detach_features, context.fake_parts))
        scalars["score/fake"] = output.scores_N.mean()
        loss = context.adversarial.fake(output.scores_N)
        if output.expert_logits_NL is not None:
            form = discriminator.head.form
            classifier = diversity.term(form, self.scale, output.expert_logits_NL, weights_BK)
            scalars["loss/classifier"] = classifier
            if form == "general":
                scalars["jsd_experts"] = diversity.jsd(output.expert_logits_NL.detach(), weights_BK)
            loss = loss + self.classifier_weight * classifier
        yield self.fake_weight * loss
        # Outside autocast, since it squares a gradient. On augmented samples: those are what the discriminator sees.
        with torch.compiler.set_stance("force_eager"):  # compiled code has no second derivative
            penalty = self.penalty(lambda samples: discriminator(samples).scores_N, real, fake.to(real.dtype))
        if penalty is not None:
            penalty = penalty if penalty_factor is None else penalty_factor * penalty
            scalars["loss/penalty"] = penalty
            yield penalty


@dataclass
class GeneratorPhase:
    """Minimises adversarial loss and weighted terms, over the generator: gate, experts and what they share."""

    context: StepContext
    terms: Mapping[str, GeneratorTerm]
    optimizers: Optimizers
    steps: int = 1
    n_real: int = 0

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the scheduled weights of terms, scalars."""
        return self.context.inputs(self.terms, nimg, iteration)

    def step(self, inputs: Mapping[str, Tensor], latent_BZ: Tensor | None = None) -> Scalars:
        """Take one step on these latents [B, Z], or on fresh ones. `inputs` has scheduled weights, scalars."""
        context, (generator, discriminator) = self.context, self.context.networks
        if latent_BZ is None:
            latent_BZ = context.latents()
        with frozen(discriminator):
            with context.compute.autocast():
                samples, weights_BK = generator(latent_BZ)
                output = discriminator(context.augmented(samples, inputs), parts=context.fake_parts)
            output = _float32(output)
            loss = context.adversarial.generator(output.scores_N)
            generated = GeneratedBatch(latent_BZ, samples, weights_BK, *output)
            scalars = {}
            for name, term in self.terms.items():
                value = scalars[f"loss/{name}"] = term(generated)
                loss = loss + inputs.get(name, term.weight) * value
            loss, skipped = optimizer_step([loss], self.optimizers)
        return {"loss/generator": loss, **scalars, SKIPPED: skipped}


@dataclass
class GatePhase:
    """Minimises weighted terms over the gate alone, on fresh latents (MEGAN's load balance)."""

    context: StepContext
    terms: Mapping[str, GateTerm]
    optimizers: Optimizers
    steps: int = 1
    n_real: int = 0

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the scheduled weights of terms, scalars."""
        return self.context.inputs(self.terms, nimg, iteration)

    def step(self, inputs: Mapping[str, Tensor]) -> Scalars:
        """Take one step on fresh latents [B, Z]. `inputs` has scheduled weights, scalars."""
        generator = self.context.networks.generator
        with frozen(generator.stem), frozen(generator.experts):
            weights = generator.weights(self.context.latents())
            scalars = {f"loss/{name}": term(*weights) for name, term in self.terms.items()}
            weighted = [inputs.get(name, term.weight) * scalars[f"loss/{name}"] for name, term in self.terms.items()]
            _, skipped = optimizer_step([torch.stack(weighted).sum()], self.optimizers)
        return {**scalars, SKIPPED: skipped}


@dataclass(frozen=True)
class Phases:
    """The phases of an iteration, in order."""

    discriminator: DiscriminatorPhase
    generator: GeneratorPhase
    gate: GatePhase | None
    """None if the objective has no term of the gate."""
    reuse_latents: bool
    """If true, the generator's step uses the latents of the last discriminator step."""

    def __iter__(self) -> Iterator[Phase]:
        return iter([self.discriminator, self.generator, *([self.gate] if self.gate else [])])

    @property
    def n_real(self) -> int:
        """Number of real images per iteration."""
        return sum(phase.steps * phase.n_real for phase in self)

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """All optimisers, by name."""
        return {name: optimizer for phase in self for name, optimizer in phase.optimizers.items()}

    def learning_rate_factors(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the factor of each scheduled learning rate, by its optimiser's name, scalars on the device."""
        return {
            name: optimizer.param_groups[0]["lr"].new_full((), schedule.factor(nimg, iteration))
            for name, optimizer in self.optimizers.items()
            if (schedule := schedule_of(optimizer))
        }


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block, compute no gradients of the network's parameters. Afterwards, compute those of all of them."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _float32(output: DiscriminatorOutput) -> DiscriminatorOutput:
    """Convert what autocast computed in bfloat16 to float32; leave other types as they are."""

    def convert(values: Tensor) -> Tensor:
        return values.float() if values.dtype == torch.bfloat16 else values

    scores_N, logits_NL, features_NF = output
    return DiscriminatorOutput(
        convert(scores_N), None if logits_NL is None else convert(logits_NL), convert(features_NF)
    )
