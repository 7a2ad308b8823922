"""Heads: what the discriminator says of the features its body found.

A head maps features [N, F] to scores [N] and, where it tells experts apart, logits for them [N, L]. A new one is a
class like these, and a YAML in conf/model/head/.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.layers import Initialise

Form = Literal["general", "one_vs_all", "pairwise"]


class Judgement(NamedTuple):
    """Scores [N], and logits of the experts [N, L] or None."""

    score_N: Tensor
    experts_NL: Tensor | None


class Head(nn.Module):
    """What every head says of itself, beside its call."""

    classifies_experts = False
    """Whether it also says which expert made a sample; only then a diversity weight `beta` means something."""
    form: Form = "general"
    """If so, how: what its logits are."""
    needs_probabilities = False
    """Whether its score is the logit of a probability, so that the adversarial loss must take it for one."""


class ScoreHead(Head):
    """One raw number a sample: a logit, or the critic's score. Initialised as the backbone says."""

    def __init__(self, features: int, initialise_head: Initialise, spectral_norm: bool) -> None:
        super().__init__()
        self.score = _dense(features, 1, initialise_head, spectral_norm)

    def forward(self, features_NF: Tensor, isolated: bool = False) -> Judgement:
        """Return the scores."""
        return Judgement(self.score(features_NF).squeeze(1), None)


class ClassifierHead(Head):
    """A score, and beside it a classifier of experts on the same features: D and C of MGGAN (Hoang et al. 2017).

    Logits by form: general, a softmax over K (eq. 2); one_vs_all, K sigmoids "k or another" (eq. 3); pairwise,
    K (K - 1)/2 sigmoids "i, not j" for i < j in lexicographic order (eq. 4).

    Raises:
        ConfigError: a form that compares experts, and K = 1.
    """

    classifies_experts = True

    def __init__(self, k: int, features: int, form: Form, initialise_head: Initialise, spectral_norm: bool) -> None:
        super().__init__()
        if k < 2 and form != "general":
            raise ConfigError(
                f"model.head.form={form} compares experts, model.k={k} is one. Take general, or model.k=2"
            )
        self.form = form
        self.score = _dense(features, 1, initialise_head, spectral_norm)
        logits = k * (k - 1) // 2 if form == "pairwise" else k
        self.experts = _dense(features, logits, initialise_head, spectral_norm)

    def forward(self, features_NF: Tensor, isolated: bool = False) -> Judgement:
        """Return scores and logits; `isolated`, the logits' gradient stops at the features."""
        logits_NL = self.experts(features_NF.detach() if isolated else features_NF)
        return Judgement(self.score(features_NF).squeeze(1), logits_NL)


class MulticlassHead(Head):
    r"""One softmax over "real" and each of the K experts, MAD-GAN's discriminator (Ghosh et al. 2018).

    With logits l_0 (real) and l_1 … l_K, log D_0 = -softplus(-s) and log D_k = -softplus(s) + log softmax(l_1 … l_K)_k
    for s = l_0 - log \sum_k exp(l_k): the score s is the logit of "real", and what remains is a classifier of experts.
    So the same losses serve both.
    """

    classifies_experts = True
    needs_probabilities = True

    def __init__(self, k: int, features: int, initialise_head: Initialise, spectral_norm: bool) -> None:
        super().__init__()
        self.classes = _dense(features, k + 1, initialise_head, spectral_norm)

    def forward(self, features_NF: Tensor, isolated: bool = False) -> Judgement:
        """Return scores and logits. There is no stopping the experts' gradient alone: `isolated` is refused before."""
        logits_NC = self.classes(features_NF)
        return Judgement(logits_NC[:, 0] - logits_NC[:, 1:].logsumexp(dim=1), logits_NC[:, 1:])


def _dense(features: int, outputs: int, initialise: Initialise, spectral_norm: bool) -> nn.Module:
    dense = nn.Linear(features, outputs)
    initialise(dense.weight, dense.bias, features)
    return with_spectral_norm(dense) if spectral_norm else dense
