"""Experts and classes: whether each expert makes images of few classes, as a classifier of the data set sees them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import classifier
from mixgan_cli.evaluation.comparison import Comparison, Layers
from mixgan_cli.evaluation.extractors import has_layer, layer_for
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey


class ExpertClasses(Metric):
    """Joint distribution of experts and classes, its mutual information and purity; for a tree also by level."""

    name = "classes"
    requires = ("gate_weights",)
    results: ClassVar = {
        "expert_class": ResultKey(meaning="Joint distribution of experts and classes."),
        "nmi": ResultKey(
            "higher",
            "Normalised mutual information of experts and classes, from 0 (independent) to 1 (each determines the "
            "other).",
            rank=None,
        ),
        "purity": ResultKey(
            "higher", "Share of samples that are of the most frequent class of their expert.", rank=None
        ),
        "nmi_by_level": ResultKey(role="detail"),
        "purity_by_level": ResultKey(role="detail"),
    }

    def needs(self, extractor: str, settings: Evaluation) -> Layers:
        """Return the layer of class logits, of the generated images."""
        if not has_layer("isc", extractor):
            return Layers()
        return Layers(fake=frozenset({layer_for("isc", extractor, settings.feature_layer)}))

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return the joint distribution [K, C], nmi and purity. Raises Unavailable if there is no classifier."""
        if classifier.NAME not in comparison.settings.extractors:
            raise Unavailable(f"needs a classifier of images: evaluation.extractors=[…,{classifier.NAME}]")
        if not comparison.is_images:
            raise Unavailable("only for images; for points take evaluation=points")
        assert comparison.weights_BK is not None
        layer = comparison.layer(classifier.NAME, "isc")
        logits_BC = comparison.fake_features(classifier.NAME).kept[layer]
        joint_KC = contingency(comparison.weights_BK, logits_BC.argmax(dim=1), logits_BC.shape[1])
        values = {"expert_class": joint_KC.tolist(), "nmi": nmi(joint_KC), "purity": purity(joint_KC)}
        if comparison.hierarchical:
            levels = by_level(joint_KC)
            values["nmi_by_level"] = [nmi(joint) for joint in levels]
            values["purity_by_level"] = [purity(joint) for joint in levels]
        return values


def contingency(weights_BK: Tensor, class_B: Tensor, classes: int) -> Tensor:
    """Return the joint distribution of experts and classes [K, C], summing to 1: a sample counts by its weights."""
    one_hot_BC = torch.nn.functional.one_hot(class_B, classes).double()
    joint_KC = weights_BK.double().T @ one_hot_BC
    return joint_KC / joint_KC.sum()  # float32 weights do not sum to 1 exactly


def by_level(joint_KC: Tensor) -> list[Tensor]:
    """Return the joint distributions of a tree's nodes and classes, [2, C], [4, C], …, [K, C].

    The samples of a node are those of the leaves below it. Leaves are ordered from left to right.
    """
    depth = len(joint_KC).bit_length() - 1
    return [joint_KC.unflatten(0, (2**level, -1)).sum(dim=1) for level in range(1, depth + 1)]


def nmi(joint_KC: Tensor) -> float:
    """Return the mutual information divided by the mean of both entropies, from 0 (independent) to 1."""
    of_experts, of_classes, of_both = (
        -torch.xlogy(p, p).sum() for p in (joint_KC.sum(dim=1), joint_KC.sum(dim=0), joint_KC.flatten())
    )
    mean = (of_experts + of_classes) / 2
    return min(max(((of_experts + of_classes - of_both) / mean).item(), 0.0), 1.0) if mean > 0 else 1.0


def purity(joint_KC: Tensor) -> float:
    """Return the share of samples that are of the most frequent class of their expert, from 1/C to 1."""
    return min(joint_KC.amax(dim=1).sum().item(), 1.0)
