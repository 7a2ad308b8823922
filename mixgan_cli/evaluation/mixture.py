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
