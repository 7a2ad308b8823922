r"""Diversity: the loss of a classifier C that predicts which expert made a sample (Hoang et al. 2017, eqs. 2, 3, 4).

Generators and classifier both minimise it. Each form gives every generated sample a cost per expert, [N, K]: the loss
of the sample if that expert made it. The term is the mean over samples of \sum_k a_k cost_k, where a are the mixture
weights. They are one-hot where one expert makes a sample; soft weights give the mixture's expectation.

Units. The three sums of the paper have different ranges: log K (eq. 2), K log 4 (eq. 3), K (K - 1)/2 · log 4 (eq. 4).
With `scale: eq2`, each is scaled so that a classifier at chance level costs log K and a perfect one 0, so that one beta
means the same in every form: eq. 2 is unchanged, and with K = 2 all optima are equal. `scale: literal` takes the
paper's sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mixgan_cli.runtime import distributed

Scale = Literal["eq2", "literal"]


def general(logits_NK: Tensor, k: int) -> Tensor:
    """Return -log C_k(x), [N, K], C a softmax over K (eq. 2)."""
    return -logits_NK.log_softmax(dim=1)


def one_vs_all(logits_NK: Tensor, k: int) -> Tensor:
    r"""Return -log C_k(x) - 1/(K - 1) \sum_{j ≠ k} log(1 - C_j(x)), [N, K], C_k sigmoids (eq. 3).

    The expectation over "the rest" is their mean, so each of the others has the weight 1/(K - 1).
    """
    negative_loss_NK = softplus(logits_NK)
    return softplus(-logits_NK) + (negative_loss_NK.sum(dim=1, keepdim=True) - negative_loss_NK) / (k - 1)


def pairwise(logits_NP: Tensor, k: int) -> Tensor:
    r"""Return -\sum_{j ≠ k} log C_kj(x), [N, K], C_ij sigmoids for i < j and C_ji = 1 - C_ij (eq. 4)."""
    i, j = torch.triu_indices(k, k, offset=1, device=logits_NP.device)
    logits_NKK = logits_NP.new_zeros(len(logits_NP), k, k)
    logits_NKK[:, i, j], logits_NKK[:, j, i] = logits_NP, -logits_NP
    return softplus(-logits_NKK).sum(dim=2) - math.log(2)  # each sum has softplus(0) = log 2 from the diagonal


class Form(NamedTuple):
    """One form of the classifier."""

    costs: Callable[[Tensor, int], Tensor]
    """(logits [N, L], K) → costs [N, K]."""
    undecided: Callable[[int], float]
    """The cost of a sample for a classifier at chance level, as a function of K."""
    literal: Callable[[int], float]
    """The factor that turns the mean cost of a sample into the paper's sum, as a function of K."""


FORMS: Mapping[str, Form] = {
    "general": Form(general, undecided=math.log, literal=lambda k: 1),
    "one_vs_all": Form(one_vs_all, undecided=lambda k: math.log(4), literal=lambda k: k),
    "pairwise": Form(pairwise, undecided=lambda k: (k - 1) * math.log(2), literal=lambda k: k),
}


def term(form: str, scale: Scale, logits_NL: Tensor, weights_NK: Tensor) -> Tensor:
    """Return the term without beta, a scalar. Its gradient reaches the classifier, the samples and the gate."""
    k = weights_NK.shape[1]
    return _factor(form, scale, k) * (weights_NK * FORMS[form].costs(logits_NL, k)).sum(dim=1).mean()


def jsd(logits_NK: Tensor, weights_NK: Tensor) -> Tensor:
    r"""Estimate the experts' Jensen-Shannon divergence with a classifier of form general, in nats, a scalar.

    H(usage) - E[-\sum_k a_k log C_k(x)]: the information that a sample has on its expert, from 0 (all experts make the
    same) to log K. It is exact for the best classifier and a lower bound for any other (eqs. 5, 11: log K minus the
    term, if experts are used equally). Below 0, the classifier is worse than chance.
    """
    usage_K = distributed.mean(weights_NK.mean(dim=0))
    entropy = -torch.xlogy(usage_K, usage_K).sum()  # not torch.special.entr, which compiles a kernel on a GPU
    return entropy - term("general", "literal", logits_NK, weights_NK)


def _factor(form: str, scale: Scale, k: int) -> float:
    """Return the factor of the mean cost of a sample."""
    _, undecided, literal = FORMS[form]
    return literal(k) if scale == "literal" or k == 1 else math.log(k) / undecided(k)
