"""How the mixture uses its experts: gate entropy, expert usage, a learned prior, and the divergence between experts."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mixgan_cli.data.images import to_float
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey
from mixgan_cli.models.layers import forward_frozen_bn
from mixgan_cli.models.sampler import SAMPLE_BATCH
from mixgan_cli.objectives.diversity import jsd


class GateEntropy(Metric):
    """Mean entropy of the gate's weights."""

    name = "mixture"
    requires = ("gate_weights",)
    results: ClassVar = {
        "gate_entropy": ResultKey(
            meaning="How softly the gate mixes, in nats: 0 if each sample comes from one expert, log K if all experts "
            "have equal weights."
        )
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the entropy in nats."""
        assert comparison.weights_BK is not None
        return {"gate_entropy": gate_entropy(comparison.weights_BK)}


class ExpertUsage(Metric):
    """Mean weight of each expert."""

    name = "mixture"
    requires = ("gate_weights",)
    panel = "usage of the experts"
    results: ClassVar = {
        "expert_usage": ResultKey(meaning="Mean weight of each expert; 1/K each if all are used equally.")
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return a list [K] that sums to 1."""
        assert comparison.weights_BK is not None
        return {"expert_usage": expert_usage(comparison.weights_BK)}


class ExpertPrior(Metric):
    """The learned prior over experts, and the number of experts that it amounts to (Khayatkhoei et al. 2018)."""

    name = "mixture"
    results: ClassVar = {
        "expert_prior": ResultKey(meaning="Probability of each expert in the prior that the gate learned."),
        "effective_experts": ResultKey(
            meaning="How many experts the learned prior uses: the exponential of its entropy, from 1 to K."
        ),
    }

    def applies(self, comparison: Comparison) -> bool:
        """Return True for a gate that learns a prior over experts."""
        return comparison.prior_K is not None

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return a list [K] that sums to 1, and a number of experts."""
        assert comparison.prior_K is not None
        prior_K = comparison.prior_K.double().cpu()
        entropy = -torch.xlogy(prior_K, prior_K).sum()
        return {"expert_prior": prior_K.tolist(), "effective_experts": entropy.exp().item()}


class ExpertDivergence(Metric):
    """Jensen-Shannon divergence between experts, estimated by the discriminator's classifier of experts."""

    name = "mixture"
    results: ClassVar = {
        "jsd_experts": ResultKey(
            meaning="How different the experts are, in nats, from 0 to log K, as the discriminator's classifier of "
            "experts estimates it. The estimate may fall below 0 by chance."
        )
    }

    def applies(self, comparison: Comparison) -> bool:
        """Return False for a discriminator without a classifier of experts: `mixture` does not ask it for one."""
        return comparison.discriminator is None or comparison.discriminator.head.classifies_experts

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the estimate. Raises Unavailable if there is no discriminator with a softmax over experts."""
        if comparison.weights_BK is None or comparison.discriminator is None:
            raise Unavailable("needs the classifier of experts in a run's discriminator")
        form = comparison.discriminator.head.form
        if form != "general":
            raise Unavailable(
                "needs a softmax over experts (model.head.form=general, or model/head=multiclass); this "
                f"model's head has form={form}"
            )
        as_input = to_float if comparison.is_images else Tensor.float
        outputs = [
            forward_frozen_bn(comparison.discriminator, as_input(fakes.to(comparison.device)))
            for fakes in comparison.fake.split(SAMPLE_BATCH)
        ]
        logits_BK = torch.cat([output.expert_logits_NL.double().cpu() for output in outputs])
        return {"jsd_experts": jsd(logits_BK, comparison.weights_BK.double()).item()}


def expert_usage(weights_BK: Tensor) -> list[float]:
    """Return each expert's mean weight [K], summing to 1."""
    return weights_BK.double().mean(dim=0).tolist()


def gate_entropy(weights_BK: Tensor) -> float:
    """Return the mean entropy of a sample's weights in nats, from 0 (one expert) to log K (equal weights)."""
    weights_BK = weights_BK.double()
    return -torch.xlogy(weights_BK, weights_BK).sum(dim=1).mean().item()


def samples_by_expert(comparison: Comparison) -> list[Tensor]:
    """Return for each expert the indices [N] of the samples in which it has the largest weight.

    Raises:
        Unavailable: an expert has fewer than two samples.
    """
    weights_BK = comparison.weights_BK
    assert weights_BK is not None
    expert_B = weights_BK.argmax(dim=1)
    found = [(expert_B == expert).nonzero().squeeze(1) for expert in range(weights_BK.shape[1])]
    few = [expert for expert, rows in enumerate(found) if len(rows) < 2]
    if few:
        raise Unavailable(f"fewer than two samples of expert {', '.join(map(str, few))}")
    return found
