"""`make theory`: draw docs/images/theory.png, MGGAN's divergence of experts and the optimum of its eq. 11.

Distributions are probabilities on a grid of points. The loss of the classifier is the one that trains, at its optimum
(eq. 5); the discriminator is the best one (eq. 6).
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mixgan_cli.objectives import diversity
from mixgan_cli.runtime.io import atomic_write

PICTURE = Path(__file__).parent / "images" / "theory.png"
FORMS = {"general": "general (eq. 2)", "one_vs_all": "one-vs-all (eq. 3)", "pairwise": "pairwise (eq. 4)"}
K = 4
OVERLAPS = torch.linspace(0, 1, 101, dtype=torch.double)
BETAS = torch.linspace(0, 1, 41, dtype=torch.double)
MODES = (1.0, 1.5, 2.0, 3.0)
"""Distances of the data's two modes from 0, in standard deviations of a mode."""
GRID = torch.linspace(-16, 16, 1601, dtype=torch.double)
NOTHING = 1e-300
"""A probability that stands for 0 in logarithms."""


def experts_sharing(overlap: float) -> Tensor:
    """Return K experts on K points [K, A]: expert k has the point k, and with probability `overlap` any point."""
    return (1 - overlap) * torch.eye(K, dtype=torch.double) + overlap / K


def pair_of_gaussians(mean: float) -> Tensor:
    """Return N(-mean, 1) and N(mean, 1) as probabilities [2, A] on the grid."""
    density_KA = torch.exp(-((GRID - torch.tensor([[-mean], [mean]], dtype=torch.double)) ** 2) / 2)
    return density_KA / density_KA.sum(dim=1, keepdim=True)


def classifier_loss(form: str, p_KA: Tensor) -> float:
    """Return the diversity term of experts p [K, A] with the optimal classifier, in units of eq. 2 [nats]."""
    k, log_KA = len(p_KA), (p_KA + NOTHING).log()
    rest_KA = ((p_KA.sum(dim=0) - p_KA) / (k - 1) + NOTHING).log()
    logits_LA = {
        "general": log_KA,
        "one_vs_all": log_KA - rest_KA,
        "pairwise": torch.stack([log_KA[i] - log_KA[j] for i, j in combinations(range(k), 2)]),
    }[form]
    points = p_KA.shape[1]
    return diversity.term(form, "eq2", logits_LA.T, p_KA.T * points / k).item()  # the mean over points is Σ p


def diversity_of(form: str, p_KA: Tensor) -> float:
    """Return the divergence of experts p [K, A] over its maximum, from 0 to 1. For `general`, it is JSD / log K."""
    undecided = classifier_loss(form, torch.full_like(p_KA, 1 / p_KA.shape[1]))
    return 1 - classifier_loss(form, p_KA) / undecided


def adversarial_value(data_A: Tensor, model_A: Tensor) -> float:
    """Return E_data log D* + E_model log(1 - D*) [nats] of probabilities [A]."""
    score_A = (data_A + NOTHING).log() - (model_A + NOTHING).log()  # the logit of D*, eq. 6
    return (data_A @ logsigmoid(score_A) + model_A @ logsigmoid(-score_A)).item()


def best_means(mode: float) -> list[float]:
    """Return the mean of two experts N(±mean, 1) that minimises eq. 11 for each of BETAS. The data are at ±mode."""
    means = mode + torch.linspace(-0.2, 1, 601, dtype=torch.double)
    pairs = [pair_of_gaussians(mean) for mean in means.tolist()]
    data_A = pair_of_gaussians(mode).mean(dim=0)
    adversarial = torch.tensor([adversarial_value(data_A, pair.mean(dim=0)) for pair in pairs])
    term = torch.tensor([classifier_loss("general", pair) for pair in pairs])
    return means[(adversarial + BETAS.unsqueeze(1) * term).argmin(dim=1)].tolist()


def draw() -> None:
    """Draw both panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    for (form, label), style in zip(FORMS.items(), ("-", "--", ":"), strict=True):
        left.plot(OVERLAPS, [diversity_of(form, experts_sharing(o)) for o in OVERLAPS.tolist()], style, label=label)
    left.set(
        title=f"Divergence of {K} experts and their overlap",
        xlabel="share of its samples that an expert draws from all",
        ylabel="divergence / its maximum",
    )
    for mode in MODES:
        right.plot(BETAS, [mean - mode for mean in best_means(mode)], label=f"±{mode:g} σ")
    right.set(
        title="β moves the optimum where modes overlap",
        xlabel="β [units of eq. 2]",
        ylabel="|mean of expert| − |mode| [σ]",
    )
    left.legend(fontsize="small")
    right.legend(fontsize="small", title="modes of the data")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with atomic_write(PICTURE) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    draw()
