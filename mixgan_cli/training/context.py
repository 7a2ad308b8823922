"""What the phases of an iteration share: networks, loss, number of samples, augmentation and scheduled values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mixgan_cli.data.batches import Batches
from mixgan_cli.models.heads import DiscriminatorOutput
from mixgan_cli.models.networks import Networks, pack, unpack
from mixgan_cli.objectives.adversarial import Adversarial, PairedAdversarial
from mixgan_cli.objectives.augment_ada import AdaptiveStrength
from mixgan_cli.objectives.pairing import pair
from mixgan_cli.objectives.terms import Term
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute
from mixgan_cli.runtime.random import uniform
from mixgan_cli.training.bf16_weights import Bf16Weights


@dataclass(frozen=True)
class StepContext:
    """What all phases share."""

    networks: Networks
    adversarial: Adversarial | PairedAdversarial
    fakes: int
    """Number of samples that all ranks generate per step."""
    compute: Compute
    augment: Callable[..., Tensor] | None
    """Applied to all samples before the discriminator sees them."""
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """Schedules of the penalty's weight (`penalty`) and of the probability that a sample is augmented (`augment`)."""
    fake_parts: int = 1
    """Number of equal parts of the generated samples that pass through the discriminator one after the other."""
    batches: Batches | None = None
    batch: int = 0
    """Number of real samples per step, over all ranks together."""
    fakes_per_expert: bool = False
    """If true, the number of real samples and that of one expert's generated samples belong together."""
    bf16_weights: Bf16Weights | None = None
    """Copies of weights for passes in bf16."""

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Inside the block, compute in the precision of `compute`, with weights in it."""
        with self.compute.autocast(), self.bf16_weights.in_place() if self.bf16_weights else nullcontext():
            yield

    def reals(self, nimg: int, iteration: int) -> Tensor:
        """Return the real samples of a step, [N, …].

        If the loss pairs samples, the generator's step takes a batch of its own, which is not counted in `nimg`: the
        steps of all iterations take the batches in turn.
        """
        assert self.batches is not None
        taken = iteration * self.batch if isinstance(self.adversarial, PairedAdversarial) else 0
        return self.batches.get_batch(nimg + taken, self.batch)

    def last_reals(self, nimg: int, iteration: int) -> Tensor:
        """Return the real samples of the discriminator step before `nimg`, [N, …]."""
        return self.reals(max(nimg - self.batch, 0), iteration)

    def pairs(self, real_N: Tensor, fake_M: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of pairs of a real and a generated sample, [P] and [P]; of packs, pack by pack."""
        gate = self.networks.generator.gate
        if self.networks.discriminator.pack > 1:  # packs mix the experts, so they are in no order
            return pair(real_N, fake_M)
        return pair(real_N, fake_M, gate.k if gate.splits_batch else 1, gate.splits_batch and self.fakes_per_expert)

    def discriminate(self, samples: Tensor, detach_features: bool = False, parts: int = 1) -> DiscriminatorOutput:
        """Return the discriminator's output for samples [N, …] in float32, computed in the run's precision."""
        with self.autocast():
            return _float32(self.networks.discriminator(samples, detach_features, parts))

    def weighted_loss(self, loss: Callable[[Tensor], Tensor], scores_N: Tensor, generated: bool = False) -> Tensor:
        r"""Return the loss of scores [N], a scalar; with learned weights \sum_ij w_i u_j loss(scores of i by j).

        Args:
            loss: the loss of the scores of one expert's samples by one discriminator.
            scores_N: the scores, [N, T] of T discriminators; if the gate has weights w, generated ones are in K parts.
            generated: true for generated samples, which have an expert.
        """
        experts = self.networks.generator.gate.loss_weights() if generated else None
        discriminators = self.networks.discriminator.head.loss_weights()
        rows = [scores_N] if experts is None else scores_N.chunk(self.networks.generator.k)
        if discriminators is not None:
            by_expert = [discriminators() @ torch.stack([loss(own_N) for own_N in row.unbind(dim=1)]) for row in rows]
        else:
            by_expert = [loss(row) for row in rows]
        return by_expert[0] if experts is None else experts() @ torch.stack(by_expert)

    def latents(self, times: int = 1) -> Tensor:
        """Draw this rank's latents for a step, [B, Z], or `times` as many."""
        return self.networks.generator.latents(times * self.fakes // distributed.sync_size())

    def packed(self, samples: Tensor, generated: bool = False) -> Tensor:
        """Return samples [N, C, …] as packs [N / m, m C, …] of the discriminator's m samples; m = 1: as they are.

        Packs come from the gate's whole distribution. If the generated samples are ordered by expert, they are shuffled
        first, on each rank its own.
        """
        m = self.networks.discriminator.pack
        if m > 1 and generated and self.networks.generator.gate.splits_batch:
            samples = samples[uniform(len(samples), device=samples.device).argsort()]
        return pack(samples, m)

    def augmented(self, packs: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return packs [P, …] as the discriminator sees them; with a schedule, each sample is augmented at random."""
        if self.augment is None:
            return packs
        m = self.networks.discriminator.pack
        samples = unpack(packs, m)
        if getattr(self.augment, "per_transformation", False):
            return pack(self.augment(samples, inputs.get("factor/augment")), m)
        if "factor/augment" not in inputs:
            return pack(self.augment(samples), m)
        chosen = uniform(len(samples), *[1] * (samples.dim() - 1), device=samples.device) < inputs["factor/augment"]
        return pack(torch.where(chosen, self.augment(samples), samples), m)

    def observe(self, real_N: Tensor, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Show the scores of augmented real packs [N] to a controller; return the strength of augmentation to log."""
        factor = inputs.get("factor/augment")
        if self.controller is not None:
            self.controller.observe(real_N.repeat(self.networks.discriminator.pack))  # a score for each sample
            return {"augment/p": self.controller.p}
        if factor is None:
            return {}
        return {"augment/p": factor * getattr(self.augment, "p", 1.0)}

    @property
    def controller(self) -> AdaptiveStrength | None:
        """What sets the strength of augmentation, if it is to follow the discriminator."""
        return getattr(self.augment, "controller", None)

    def inputs(self, terms: Mapping[str, Term], nimg: int, iteration: int) -> dict[str, Tensor]:
        """Return scheduled values, scalars on the device: weights of terms by name, `schedules` as `factor/NAME`."""
        values = {f"factor/{name}": schedule.factor(nimg, iteration) for name, schedule in self.schedules.items()}
        for name, term in terms.items():
            if term.schedule:
                values[name] = term.weight * term.schedule.factor(nimg, iteration)
        parameter = next(self.networks.generator.parameters())
        return {name: parameter.new_full((), value) for name, value in values.items()}


def _float32(output: DiscriminatorOutput) -> DiscriminatorOutput:
    """Convert what autocast computed in bfloat16 to float32; leave other types as they are."""

    def convert(values: Tensor) -> Tensor:
        return values.float() if values.dtype == torch.bfloat16 else values

    scores_N, logits_NL, features_NF = output
    return DiscriminatorOutput(
        convert(scores_N), None if logits_NL is None else convert(logits_NL), convert(features_NF)
    )
