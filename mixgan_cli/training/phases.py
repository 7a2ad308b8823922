"""The phases of an iteration: the steps of discriminator, generator and gate. `loop` runs them in order.

A phase has two parts. `inputs` runs on the host: it returns everything in which this step differs from the last one
(real images, scheduled values), as tensors on the device. `step` reads nothing else that changes, so that it can be
captured in a CUDA graph and replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mixgan_cli.models.heads import DiscriminatorOutput
from mixgan_cli.objectives import diversity
from mixgan_cli.objectives.adversarial import Adversarial, PairedAdversarial
from mixgan_cli.objectives.terms import GateTerm, GeneratedBatch, GeneratorTerm
from mixgan_cli.optim.optimizers import Optimizers, schedules_of
from mixgan_cli.training.context import StepContext
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


class ShownSamples(NamedTuple):
    """Samples [N, …], real or generated, as they are and as the discriminator sees them; in packs, if it has packs."""

    samples: Tensor
    augmented: Tensor


class DiscriminatorStep(NamedTuple):
    """What a discriminator step returns."""

    scalars: Scalars
    latent_BZ: Tensor
    """The latents of its generated samples, which the generator's step may use again."""


@dataclass
class DiscriminatorPhase:
    """Minimises adversarial loss, loss of the classifier of experts and penalty, over the discriminator.

    Real and generated samples pass through the discriminator separately, so batch norm does not mix them, unless
    `one_pass` is set. The same holds for those of different experts if the context has several `fake_parts`.
    """

    context: StepContext
    penalty: Any
    fake_weight: float
    """Weight of all losses on generated samples."""
    classifier_weight: float
    scale: diversity.Scale
    detach_features: bool
    """If true, the classifier of experts does not train the body."""
    optimizers: Optimizers
    steps: int
    one_pass: bool = False
    """If true, real and generated samples pass together: fewer kernels, and more memory for activations."""

    @property
    def n_real(self) -> int:
        """Number of real images that a step shows to the discriminator, over all ranks together."""
        return self.context.batch

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the next batch of real samples [N, …], and scheduled factors, scalars."""
        return {"real": self.context.reals(nimg, iteration), **self.context.inputs({}, nimg, iteration)}

    def step(self, inputs: Mapping[str, Tensor]) -> DiscriminatorStep:
        """Take one step on the real samples in `inputs` [N, …] and on fresh latents."""
        context, generator = self.context, self.context.networks.generator
        real = self._shown(context.packed(inputs["real"]), inputs)
        latent_BZ = context.latents()
        with torch.no_grad(), context.autocast():
            samples, weights_BK = generator(latent_BZ)
        with context.compute.autocast():
            samples = samples.to(real.samples.dtype) if self._on_scores else samples
            fake = self._shown(context.packed(samples, generated=True), inputs)
        scalars: Scalars = {}
        losses = self.losses(real, fake, weights_BK, scalars, inputs)
        loss, skipped = optimizer_step(losses, self.optimizers, context.bf16_weights)
        if constrain := getattr(self.penalty, "constrain", None):
            constrain(context.networks.discriminator.parameters())
        if context.bf16_weights:
            context.bf16_weights.refresh(context.networks.discriminator.parameters())
        return DiscriminatorStep({"loss/discriminator": loss, **scalars, SKIPPED: skipped}, latent_BZ)

    @property
    def allows_one_pass(self) -> bool:
        """True if `one_pass` changes nothing but rounding: each sample has a score and a loss of its own."""
        return (
            self.context.fake_parts == 1
            and self.context.networks.discriminator.per_sample
            and isinstance(self.context.adversarial, Adversarial)
            and not self._on_scores
        )

    @property
    def _on_scores(self) -> bool:
        """True if the penalty is that of the scores which the loss uses, with respect to samples not augmented."""
        return getattr(self.penalty, "on_scores", False)

    def _shown(self, samples: Tensor, inputs: Mapping[str, Tensor]) -> ShownSamples:
        """Return samples [N, …] and what the discriminator sees of them."""
        if self._on_scores:
            samples = samples.detach().requires_grad_()
        return ShownSamples(samples, self.context.augmented(samples, inputs))

    def losses(
        self,
        real: ShownSamples,
        fake: ShownSamples,
        weights_BK: Tensor,
        scalars: Scalars,
        inputs: Mapping[str, Tensor],
    ) -> Iterator[Tensor]:
        """Yield the loss term by term, scalars; each is differentiated before the next is computed.

        A loss on pairs is one term, with the penalty on scores. Values to log are added to `scalars`. `inputs` has
        scheduled factors, scalars.
        """
        adversarial, n = self.context.adversarial, len(real.augmented)
        penalty_factor = inputs.get("factor/penalty")
        if self.one_pass:
            assert isinstance(adversarial, Adversarial)
            both = self._discriminate(torch.cat((real.augmented, fake.augmented)), self.detach_features)
            real_N, output = both.scores_N[:n], _rows(both, slice(n, None))
            scalars |= {"score/real": real_N.mean(), **self.context.observe(real_N, inputs)}
            loss = self.context.weighted_loss(adversarial.fake, output.scores_N, generated=True)
            loss = self._of_fakes(loss, output, weights_BK, scalars)
            yield self.context.weighted_loss(adversarial.real, real_N) + loss
        else:
            real_N = self._discriminate(real.augmented).scores_N
            scalars |= {"score/real": real_N.mean(), **self.context.observe(real_N, inputs)}
            penalties = self._penalties(real, real_N, penalty_factor, generated=False)
            if isinstance(adversarial, Adversarial):
                yield _total(self.context.weighted_loss(adversarial.real, real_N), *penalties)
            output = self._discriminate(fake.augmented, self.detach_features, self.context.fake_parts)
            of_fakes = self._penalties(fake, output.scores_N, penalty_factor, generated=True)
            penalties += of_fakes
            if isinstance(adversarial, Adversarial):
                loss = self.context.weighted_loss(adversarial.fake, output.scores_N, generated=True)
            else:
                loss = adversarial.discriminator(*self.context.pairs(real_N, output.scores_N))
                of_fakes = penalties
            if penalties:
                scalars["loss/penalty"] = _total(*penalties)
            yield _total(self._of_fakes(loss, output, weights_BK, scalars), *of_fakes)
        if (weights := self.context.networks.discriminator.head.loss_weights()) is not None:
            scalars["loss/weights_of_discriminators"] = weights.penalty()
            yield scalars["loss/weights_of_discriminators"]
        if self._on_scores:
            return
        # Outside autocast, since it squares a gradient. On augmented samples: those are what the discriminator sees.
        score, shown = self.context.networks.discriminator.score, fake.augmented.to(real.augmented.dtype)
        penalty = self.penalty(score, real.augmented, shown)
        if penalty is not None:
            penalty = penalty if penalty_factor is None else penalty_factor * penalty
            scalars["loss/penalty"] = penalty
            yield penalty

    def _of_fakes(self, loss: Tensor, output: DiscriminatorOutput, weights_BK: Tensor, scalars: Scalars) -> Tensor:
        """Return the weighted loss on generated samples: the adversarial one, and that of the classifier of experts."""
        scalars["score/fake"] = output.scores_N.mean()
        if output.expert_logits_NL is not None:
            form = self.context.networks.discriminator.head.form
            classifier = diversity.term(form, self.scale, output.expert_logits_NL, weights_BK)
            scalars["loss/classifier"] = classifier
            if form == "general":
                scalars["jsd_experts"] = diversity.jsd(output.expert_logits_NL.detach(), weights_BK)
            loss = loss + self.classifier_weight * classifier
        return self.fake_weight * loss

    def _discriminate(self, samples: Tensor, detach_features: bool = False, parts: int = 1) -> DiscriminatorOutput:
        """Return the output for samples [N, …], computed so that a penalty on the scores can be differentiated."""
        with torch.compiler.set_stance("force_eager") if self._on_scores else nullcontext():
            return self.context.discriminate(samples, detach_features, parts)

    def _penalties(self, shown: ShownSamples, scores_N: Tensor, factor: Tensor | None, generated: bool) -> list[Tensor]:
        """Return the penalty on these scores, a scalar, as a list; it is empty if there is none."""
        value = self.penalty(shown.samples, scores_N, generated) if self._on_scores else None
        return [] if value is None else [value if factor is None else factor * value]


@dataclass
class GeneratorPhase:
    """Minimises adversarial loss and weighted terms, over the generator: gate, experts and what they share."""

    context: StepContext
    terms: Mapping[str, GeneratorTerm]
    optimizers: Optimizers
    fakes: int = 1
    """Number of generated samples, as a multiple of those in the discriminator's step."""
    steps: int = 1
    n_real: int = 0
    unroll: Callable[[Tensor, Tensor, Tensor], StepContext] | None = None
    """Takes steps of the discriminator through which the loss is differentiated, see `training.unrolled`."""

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the scheduled weights of terms, scalars; if the loss or a term needs them, also real samples [N, …].

        A loss on pairs takes a batch of its own; a term alone gets the real samples of the last discriminator step.
        """
        if isinstance(self.context.adversarial, PairedAdversarial):
            reals = {"real": self.context.reals(nimg, iteration)}
        elif self.unroll or self._terms_read_reals:
            reals = {"real": self.context.last_reals(nimg, iteration)}
        else:
            reals = {}
        return {**reals, **self.context.inputs(self.terms, nimg, iteration)}

    def step(self, inputs: Mapping[str, Tensor], latent_BZ: Tensor | None = None) -> Scalars:
        """Take one step on these latents [B, Z], or on fresh ones; `inputs` is what the method `inputs` returned."""
        context, (generator, discriminator) = self.context, self.context.networks
        if latent_BZ is None:
            latent_BZ = context.latents(self.fakes)
        with frozen(discriminator):
            with context.autocast():
                samples, weights_BK = generator(latent_BZ)
                shown = context.augmented(context.packed(samples, generated=True), inputs)
            if self.unroll:
                reals = context.augmented(context.packed(inputs["real"]), inputs)
                context = self.unroll(reals, shown, weights_BK)
            output = context.discriminate(shown, parts=context.fake_parts)
            real = None
            if self._terms_read_reals or isinstance(context.adversarial, PairedAdversarial):
                with torch.no_grad():
                    real = context.discriminate(context.augmented(context.packed(inputs["real"]), inputs))
            if isinstance(context.adversarial, Adversarial):
                loss = context.weighted_loss(context.adversarial.generator, output.scores_N, generated=True)
            else:
                assert real is not None
                loss = context.adversarial.generator(*context.pairs(real.scores_N, output.scores_N))
            generated = GeneratedBatch(latent_BZ, samples, weights_BK, *output, real.features_NF if real else None)
            scalars = {}
            for name, term in self.terms.items():
                value = scalars[f"loss/{name}"] = term(generated)
                loss = loss + inputs.get(name, term.weight) * value
            if (weights := generator.gate.loss_weights()) is not None:
                loss = loss + scalars.setdefault("loss/weights_of_experts", weights.penalty())
            loss, skipped = optimizer_step([loss], self.optimizers, context.bf16_weights)
        return {"loss/generator": loss, **scalars, SKIPPED: skipped}

    @property
    def _terms_read_reals(self) -> bool:
        return any(term.reads_reals for term in self.terms.values())


@dataclass
class GatePhase:
    """Minimises weighted terms over the gate alone, on fresh latents (MEGAN's load balance, a learned prior)."""

    context: StepContext
    terms: Mapping[str, GateTerm]
    optimizers: Optimizers
    steps: int = 1
    n_real: int = 0

    def inputs(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the scheduled weights of terms, scalars; if a term needs them, also real samples [N, …]."""
        reads = any(term.reads_posteriors for term in self.terms.values())
        reals = {"real": self.context.last_reals(nimg, iteration)} if reads else {}
        return {**reals, **self.context.inputs(self.terms, nimg, iteration)}

    def step(self, inputs: Mapping[str, Tensor]) -> Scalars:
        """Take one step on fresh latents [B, Z]; `inputs` is what the method `inputs` returned."""
        generator = self.context.networks.generator
        posterior_NK = self._posterior(inputs) if "real" in inputs else None
        with frozen(generator.stem), frozen(generator.experts):
            weights = generator.weights(self.context.latents())
            scalars = {
                f"loss/{name}": term(*weights, posterior_NK) if term.reads_posteriors else term(*weights)
                for name, term in self.terms.items()
            }
            weighted = [inputs.get(name, term.weight) * scalars[f"loss/{name}"] for name, term in self.terms.items()]
            _, skipped = optimizer_step([torch.stack(weighted).sum()], self.optimizers)
        return {**scalars, SKIPPED: skipped}

    @torch.no_grad()
    def _posterior(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the distribution of experts, [N, K], that the discriminator gives real samples."""
        logits_NK = self.context.discriminate(self.context.augmented(inputs["real"], inputs)).expert_logits_NL
        assert logits_NK is not None
        return logits_NK.softmax(dim=1)


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

    def optimizer_factors(self, nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return the factor of each scheduled value as `OPTIMIZER/VALUE`, scalars on the device: see `schedules_of`."""
        return {
            f"{name}/{what}": optimizer.param_groups[0]["params"][0].new_full((), schedule.factor(nimg, iteration))
            for name, optimizer in self.optimizers.items()
            for what, schedule in schedules_of(optimizer).items()
        }


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block, compute no gradients of the network's parameters. Afterwards, compute those of all of them."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _total(first: Tensor, *others: Tensor) -> Tensor:
    """Return the sum of scalars."""
    return torch.stack((first, *others)).sum() if others else first


def _rows(output: DiscriminatorOutput, rows: slice) -> DiscriminatorOutput:
    scores_N, logits_NL, features_NF = output
    return DiscriminatorOutput(scores_N[rows], None if logits_NL is None else logits_NL[rows], features_NF[rows])
