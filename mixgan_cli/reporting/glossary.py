"""What the figures on a page are, in a sentence each; docs/evaluation.md tells the rest."""

from __future__ import annotations

from collections.abc import Iterable

MEANINGS = {
    "fid": (
        "Fréchet distance of features of generated and real images; lower is better. The name's end says "
        "which features: without one the usual 2,048, which compare with nothing else."
    ),
    "inception_score": (
        "how sure the Inception network is of single images, and how varied over all; higher is better."
    ),
    "classifier_score": "the same by a classifier trained on the data set; higher is better.",
    "kid": "squared maximum mean discrepancy of features; lower is better.",
    "precision": "share of generated images that lie among the real ones; higher is better.",
    "recall": "share of real images that lie among the generated ones; higher is better.",
    "ms_ssim": (
        "mean likeness of pairs of generated images; ms_ssim_real is that of real ones. Higher than theirs "
        "says: less diverse."
    ),
    "knn": (
        "share of its own kind among the nearest neighbours of generated (knn_fake) and of real samples "
        "(knn_real), all pooled: 0.5 is ideal, 1 says that they are told apart. By majority: the share of "
        "samples most of whose neighbours are."
    ),
    "gate_entropy": "how softly the gate mixes, in nats: 0, each sample is one expert's; log K, all take part alike.",
    "expert_usage": "each expert's mean weight; the same for all is 1/K.",
    "jsd_experts": (
        "how far apart the discriminator's classifier finds the experts, in nats, from 0 to log K; an "
        "estimate, which may fall below 0 by chance."
    ),
    "nmi": "normalised mutual information of experts and classes: 0, they say nothing of each other; 1, all.",
    "purity": "share of samples that are of their expert's commonest class.",
    "modes_covered": "modes with at least one sample within three standard deviations.",
    "high_quality": "share of samples within three standard deviations of a mode; higher is better.",
    "symmetric_kl": "symmetric Kullback-Leibler divergence of histograms; lower is better.",
    "wasserstein": "exact Wasserstein distance of histograms; lower is better.",
}
"""By how names of metrics begin."""


def glossary(metrics: Iterable[str]) -> dict[str, str]:
    """Return what those of these metrics are that have a meaning here, in this module's order."""
    names = tuple(metrics)
    return {head: told for head, told in MEANINGS.items() if any(name.startswith(head) for name in names)}
