"""What the mixture does: who is used, and how softly."""

from __future__ import annotations

from torch import Tensor
from torch.special import entr


def expert_usage(weights_BK: Tensor) -> list[float]:
    """Return each expert's mean weight, [K], summing to 1."""
    return weights_BK.double().mean(dim=0).tolist()


def gate_entropy(weights_BK: Tensor) -> float:
    """Return the mean entropy of a sample's weights, in nats: 0 where one expert makes it, log K where all do alike."""
    return entr(weights_BK.double()).sum(dim=1).mean().item()


def jsd_experts(logits_BK: Tensor, weights_BK: Tensor) -> float:
    r"""Estimate the experts' Jensen-Shannon divergence, in nats: 0 where all make the same, at most log K.

    H(usage) - E[-\sum_k a_k log C_k(x)], with a the gate's weights and C the softmax of a classifier's logits: what the
    sample tells of its expert. With the best classifier it is exact, with any other a lower bound (Hoang et al. 2017,
    eqs. 5, 11: log K less the diversity term where experts are used alike); below 0 the classifier is worse than a
    guess.
    """
    weights_BK, log_c_BK = weights_BK.double(), logits_BK.double().log_softmax(dim=1)
    return (entr(weights_BK.mean(dim=0)).sum() + (weights_BK * log_c_BK).sum(dim=1).mean()).item()
