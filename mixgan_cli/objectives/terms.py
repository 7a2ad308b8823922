"""Terms of the generator's and the gate's loss: diversity, competition, load balance and a learned prior.

A term belongs to one network's step. A `GeneratorTerm` is added to the generator's adversarial loss; a `GateTerm` is
minimised over the gate alone, in a step of its own. A term returns its value without its weight: the training loop
multiplies it by `weight` (times the factor of its schedule, if it has one) and logs the value as `loss/NAME`.

A new term is a subclass with `__call__`, and a YAML file in conf/objective/terms/. If it is part of mixgan, this
package exports it in `__all__`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat
from torch import Tensor
from torch.nn.functional import normalize

from mixgan_cli.config.components import TARGET, attribute, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.objectives import diversity
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runtime import distributed


class Term:
    """A term of a loss, with a weight.

    Args:
        weight: factor of the term in the loss.
    """

    network: ClassVar[Literal["generator", "gate"]]
    """The network in whose step the term is minimised."""
    schedule: Schedule | None = None
    """Schedule of the weight; None: constant."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the term can be used in this run. A subclass overrides this to check what it needs.

        Args:
            key: where the term stands in the configuration, such as `objective.terms.diversity`.
            arguments: its arguments in the configuration.
            run: the configuration.

        Raises:
            ConfigError: the model or another part of the objective does not have what the term needs.
        """


@dataclass(frozen=True)
class GeneratedBatch:
    """Generated samples, with their gradients, and what the discriminator returned for them.

    Everything is float32 except the samples, which may be bfloat16 if the precision is bf16. If the discriminator sees
    packs of m samples (`model.pack`), the scores and features are those of B / m packs of samples in another order.
    """

    latent_BZ: Tensor
    samples: Tensor
    """Generated samples, [B, …], before any augmentation. A uniform gate makes K equal parts, one per expert."""
    weights_BK: Tensor
    """Mixture weights of the samples; one-hot where one expert makes a sample."""
    scores_B: Tensor
    expert_logits_BL: Tensor | None
    """Logits of the classifier of experts; None if the head has none."""
    features_BF: Tensor
    """The discriminator's features."""
    real_features_NF: Tensor | None = None
    """Those of real samples, without gradient. Given only if a term has `reads_reals`, or the loss pairs samples."""


class GeneratorTerm(Term, ABC):
    """A term that is added to the generator's adversarial loss."""

    network = "generator"
    reads_reals = False
    """If true, the batch has the features of the real samples of the last discriminator step."""

    @abstractmethod
    def __call__(self, batch: GeneratedBatch) -> Tensor:
        """Return the value of the term on a generated batch, without its weight, a scalar."""


class GateTerm(Term, ABC):
    """A term that is minimised over the gate alone, on fresh latents."""

    network = "gate"
    reads_posteriors = False
    """If true, the term is given the classifier's distributions of experts for real samples."""

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the gate is trainable and has an optimiser for the step.

        Raises:
            ConfigError: it is not, or has none.
        """
        gate, optimizer = run.model.gate[TARGET], run.objective.optimizer
        if not attribute(gate, "trainable"):
            raise ConfigError(f"{key}: {class_name(gate)} learns nothing that could be balanced; take null")
        if not (optimizer.gate or optimizer.balance):
            raise ConfigError(f"{key}: the gate has no optimiser. Give optimizer.gate or optimizer.balance")

    @abstractmethod
    def __call__(self, weights_BK: Tensor, relaxed_BK: Tensor, posterior_NK: Tensor | None = None) -> Tensor:
        """Return the value of the term, without its weight, a scalar.

        Args:
            weights_BK: mixture weights as the generator uses them, one-hot for hard gates (with a straight-through
                gradient).
            relaxed_BK: the same weights before they are made one-hot; for soft gates they are equal.
            posterior_NK: the discriminator's distribution of experts for each real sample of the last discriminator
                step, without gradient. Given only to terms with `reads_posteriors`; others need no such argument.
        """


class Diversity(GeneratorTerm):
    """The loss of the classifier of experts on generated samples (Hoang et al. 2017, eq. 2): see `diversity`.

    The generators minimise it, too: samples of different experts should be easy to tell apart.

    Args:
        weight: beta in eq. 2; `model.beta`.
        scale: the unit of the term, given by the program (`objective.classifier.scale`).
        form: the form of the classifier, given by the program (the discriminator's head has it).
    """

    def __init__(self, weight: NonNegativeFloat, scale: diversity.Scale, form: str) -> None:
        super().__init__(weight)
        self.scale, self.form = scale, form

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the discriminator's head classifies experts.

        Raises:
            ConfigError: it does not, and the weight is not 0.
        """
        head, weight = run.model.head[TARGET], arguments["weight"]
        if weight and not attribute(head, "classifies_experts"):
            raise ConfigError(
                f"model.beta={weight}: {class_name(head)} does not classify experts; take 0, or model/head=classifier"
            )

    def __call__(self, batch: GeneratedBatch) -> Tensor:
        """Return the mean loss of the classifier, a scalar."""
        assert batch.expert_logits_BL is not None
        return diversity.term(self.form, self.scale, batch.expert_logits_BL, batch.weights_BK)


class FeatureMatching(GeneratorTerm):
    r"""The distance of the mean features f of real and generated samples (Salimans et al. 2016, section 3.1).

    f are the features before the discriminator's last layer. The released code takes the mean over features of
    |E f(x) - E f(G(z))|, the paper ‖E f(x) - E f(G(z))‖².

    Args:
        weight: 1, with `objective.adversarial` of feature_matching, which is the source's loss of the generator.
        norm: l1: the released code's; l2: the paper's.
    """

    reads_reals = True

    def __init__(self, weight: float, norm: Literal["l1", "l2"]) -> None:
        super().__init__(weight)
        self.norm = norm

    def __call__(self, batch: GeneratedBatch) -> Tensor:
        """Return the distance of the means over the batches of all ranks, a scalar."""
        assert batch.real_features_NF is not None
        real_F = distributed.mean(batch.real_features_NF.mean(dim=0))
        difference_F = real_F - distributed.mean(batch.features_BF.mean(dim=0))
        return difference_F.abs().mean() if self.norm == "l1" else difference_F.square().sum()


class Competition(GeneratorTerm):
    r"""MAD-GAN-Sim's competition (Ghosh et al. 2018, appendix): E max(0, R_i - D(G_i(z))).

    R_i = D(G_j(z)) + cos(φ(G_i(z)), φ(G_j(z))), averaged over j ≠ i: an expert's probability must exceed those of the
    others by its similarity to them, at the same latent. φ are the discriminator's features, D is its probability. In
    the author's code only D(G_i(z)) has a gradient, so similarity decides when experts are pushed apart, not in which
    direction. With `through_similarity`, R_i is differentiated too, which is another method. That code computes the
    same value, but omits the minus of -D(G_i(z)) in the gradient: an expert that is behind is pushed further back.

    Args:
        weight: 1e-4 for the author's DCGAN.
        others: how the others are combined: their mean, or their maximum.
        through_similarity: see above.
        reversed_sign: if true, the gradient of D(G_i(z)) has the sign of the author's code, else that of the formula.
        k: number of experts, given by the program.
    """

    def __init__(
        self,
        weight: float,
        others: Literal["mean", "max"],
        through_similarity: bool,
        k: int,
        reversed_sign: bool = False,
    ) -> None:
        super().__init__(weight)
        self.others, self.through_similarity, self.k = others, through_similarity, k
        self.reversed_sign = reversed_sign

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that K ≥ 2 experts see the same latents and that scores are logits of probabilities of single samples.

        Raises:
            ConfigError: one of them does not hold.
        """
        gate, adversarial = run.model.gate, run.objective.adversarial[TARGET]
        if not attribute(gate[TARGET], "splits_batch") or not gate.get("same_latents"):
            raise ConfigError(
                f"{key}: compares experts at the same latents. Take model/gate=uniform with "
                f"model.gate.same_latents=true, or {key}=null"
            )
        if not attribute(adversarial, "probabilistic"):
            raise ConfigError(
                f"{key}: compares probabilities, and {class_name(adversarial)} takes the score for something else. "
                f"Take objective=madgan_sim, or {key}=null"
            )
        if run.model.k < 2:
            raise ConfigError(f"{key}: one expert has no rival; take null, or model.k=2")
        head = run.model.head[TARGET]
        if not attribute(head, "scores"):
            raise ConfigError(
                f"model.head: {class_name(head)} gives several scores of a sample, and {key} compares one. Take "
                f"{key}=null, or model/head=score"
            )
        if run.model.pack > 1:
            raise ConfigError(
                f"model.pack={run.model.pack}: {key} compares the scores of single samples. Take {key}=null, or "
                "model.pack=1"
            )

    def __call__(self, batch: GeneratedBatch) -> Tensor:
        """Return the mean margin, a scalar. Samples are K equal parts, made of the same latents in one order."""
        probability_KB = batch.scores_B.sigmoid().unflatten(0, (self.k, -1))
        features_BF = batch.features_BF if self.through_similarity else batch.features_BF.detach()
        direction_KBF = normalize(features_BF, dim=1).unflatten(0, (self.k, -1))
        similarity_KKB = torch.einsum("ibf,jbf->ijb", direction_KBF, direction_KBF)
        rival_scores_KB = probability_KB if self.through_similarity else probability_KB.detach()
        rivals_KKB = rival_scores_KB.unsqueeze(0) + similarity_KKB
        itself = torch.eye(self.k, dtype=torch.bool, device=probability_KB.device).unsqueeze(2)
        if self.others == "mean":
            rival_KB = rivals_KKB.masked_fill(itself, 0).sum(dim=1) / (self.k - 1)
        else:
            rival_KB = rivals_KKB.masked_fill(itself, -torch.inf).amax(dim=1)
        own_KB = 2 * probability_KB.detach() - probability_KB if self.reversed_sign else probability_KB
        return (rival_KB - own_KB).relu().mean()


class LoadBalance(GateTerm):
    r"""\sum_k (p_k - 1/K)², p_k the share of the batch that expert k gets (MEGAN, Park et al. 2018).

    Args:
        weight: factor in the gate's loss.
        reduction: sum over k, as in the paper; mean, as in the released code (its weight is K times as large).
        counts: hard: one-hot weights, with their straight-through gradient (released code); soft: the relaxed
            weights (the HMoG author). For soft gates there is no difference.
    """

    def __init__(self, weight: float, reduction: Literal["sum", "mean"], counts: Literal["hard", "soft"]) -> None:
        super().__init__(weight)
        self.reduction, self.counts = reduction, counts

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the gate learns, and that the counts have a gradient.

        Raises:
            ConfigError: one of them does not hold.
        """
        super().check_run(key, arguments, run)
        gate = run.model.gate[TARGET]
        if arguments["counts"] == "hard" and attribute(gate, "differentiable") is False:
            raise ConfigError(
                f"{key}.counts=hard: the experts that {class_name(gate)} draws have no gradient. Take soft, or "
                f"{key}=null"
            )

    def __call__(self, weights_BK: Tensor, relaxed_BK: Tensor, posterior_NK: Tensor | None = None) -> Tensor:
        """Return the imbalance over the batches of all ranks, a scalar."""
        share_K = distributed.mean((weights_BK if self.counts == "hard" else relaxed_BK).mean(dim=0))
        error_K = (share_K - 1 / len(share_K)).square()
        return error_K.sum() if self.reduction == "sum" else error_K.mean()


class LearnedPrior(GateTerm):
    r"""-1/K \sum_k q_k log r_k: how likely the experts of real samples are under the gate (Khayatkhoei et al. 2018).

    q_k is the mean over real samples of the classifier's probability that expert k would have made them, r_k the mean
    weight of expert k. With the gate `prior`, r is its distribution of experts, and the minimum is r = q. The paper's
    code averages over samples and experts, hence 1/K. Other gates are moved in the same way, by the mean over a batch.

    Args:
        weight: 1 in the paper's code.
    """

    reads_posteriors = True

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the gate learns, and that the discriminator's head has a softmax over experts.

        Raises:
            ConfigError: one of them does not hold.
        """
        super().check_run(key, arguments, run)
        head = run.model.head[TARGET]
        if not attribute(head, "classifies_experts"):
            raise ConfigError(
                f"{key}: asks a classifier for the experts of real samples, and {class_name(head)} has none. "
                f"Take model/head=classifier, or {key}=null"
            )
        form = run.model.head.get("form", attribute(head, "form"))
        if form != "general":
            raise ConfigError(
                f"model.head.form={form}: {key} needs a softmax over the experts. Take general, or {key}=null"
            )

    def __call__(self, weights_BK: Tensor, relaxed_BK: Tensor, posterior_NK: Tensor | None = None) -> Tensor:
        """Return the cross-entropy over the batches of all ranks, divided by K, a scalar."""
        assert posterior_NK is not None
        posterior_K = distributed.mean(posterior_NK.mean(dim=0))
        return -(posterior_K * _log_usage(relaxed_BK)).mean()


class PriorEntropy(GateTerm):
    r"""\sum_k r_k log r_k, minus the entropy of the gate's mean weights r (Khayatkhoei et al. 2018).

    It keeps all experts in use until the classifier can tell them apart: the paper's weight is 1000 · 0.999^t, t
    generator steps.

    Args:
        weight: 1000 in the paper's code, with a schedule.
    """

    def __call__(self, weights_BK: Tensor, relaxed_BK: Tensor, posterior_NK: Tensor | None = None) -> Tensor:
        """Return minus the entropy over the batches of all ranks, in nats, a scalar."""
        log_usage_K = _log_usage(relaxed_BK)
        return (log_usage_K.exp() * log_usage_K).sum()


def _log_usage(relaxed_BK: Tensor) -> Tensor:
    """Return the logarithm of each expert's mean weight over all ranks, [K]; it is finite for unused experts."""
    share_K = distributed.mean(relaxed_BK.mean(dim=0))
    return share_K.clamp_min(torch.finfo(share_K.dtype).tiny).log()
