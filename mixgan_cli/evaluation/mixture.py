"""What the mixture does: who is used, and how softly."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import entr


def expert_usage(weights_BK: Tensor) -> list[float]:
    """Return each expert's mean weight, [K], summing to 1."""
    return weights_BK.double().mean(dim=0).tolist()


def gate_entropy(weights_BK: Tensor) -> float:
    """Return the mean entropy of a sample's weights, in nats: 0 where one expert makes it, log K where all do alike."""
    return entr(weights_BK.double()).sum(dim=1).mean().item()


def contingency(weights_BK: Tensor, class_B: Tensor, classes: int) -> Tensor:
    """Return the joint distribution of experts and classes [K, C], summing to 1: a sample counts by its weights."""
    one_hot_BC = torch.nn.functional.one_hot(class_B, classes).double()
    return weights_BK.double().T @ one_hot_BC / len(class_B)


def by_level(joint_KC: Tensor) -> list[Tensor]:
    """Return the joint distributions of a tree's nodes and classes, [2, C], [4, C], …, [K, C].

    A node's samples are those of the leaves below it, which stand from left to right.
    """
    depth = len(joint_KC).bit_length() - 1
    return [joint_KC.unflatten(0, (2**level, -1)).sum(dim=1) for level in range(1, depth + 1)]


def nmi(joint_KC: Tensor) -> float:
    """Return the mutual information over the mean of both entropies: 0, experts say nothing of classes, to 1, all."""
    joint_KC = joint_KC / joint_KC.sum()  # float32 weights do not sum to 1 exactly
    of_experts, of_classes, of_both = (
        entr(p).sum() for p in (joint_KC.sum(dim=1), joint_KC.sum(dim=0), joint_KC.flatten())
    )
    mean = (of_experts + of_classes) / 2
    return max(((of_experts + of_classes - of_both) / mean).item(), 0.0) if mean > 0 else 1.0


def purity(joint_KC: Tensor) -> float:
    """Return the share of samples that are of the commonest class of their expert; 1/C at worst, 1 at best."""
    return joint_KC.amax(dim=1).sum().item()
