"""Heads: the last layer of the discriminator. It maps features [N, F] to scores and, for some heads, expert logits.

A new head is a subclass of `Head` and a YAML file in conf/model/head/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from mixgan_cli.config.components import TARGET, attribute, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.layers import Initialise, LossWeights

Form = Literal["general", "one_vs_all", "pairwise"]


class DiscriminatorOutput(NamedTuple):
    """The scores [N], the expert logits [N, L] (None without a classifier of experts) and the features [N, F].

    A head with several scores for a sample returns them as [N, S].
    """

    scores_N: Tensor
    expert_logits_NL: Tensor | None
    features_NF: Tensor


class Head(nn.Module):
    """The base class of heads. `forward(features_NF, detach_features)` returns a `DiscriminatorOutput`."""

    classifies_experts = False
    """If true, the head also predicts which expert made a sample. The diversity weight `beta` needs such a head."""
    scores = 1
    """S, the number of scores for a sample; an adversarial loss takes the same number. 0: several with a loss each."""
    bodies = 1
    """How many bodies of the backbone the discriminator has; the head receives their features [N, F] side by side."""
    form: Form = "general"
    """What the expert logits mean, see `ClassifierHead`."""
    across_samples = False
    """If true, the score of a sample depends on the others of its batch."""

    def loss_weights(self) -> LossWeights | None:
        """Return learned weights [T] of the losses of T discriminators; such a head returns scores [N, T]."""
        return None

    def initialise_from(self, features_NF: Tensor) -> None:
        """Initialise what depends on the features of real samples [N, F]; by default nothing does."""

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the head has one sample at a time, if it predicts which expert made it.

        Raises:
            ConfigError: it predicts experts, and the discriminator sees packs of samples.
        """
        if cls.classifies_experts and run.model.pack > 1:
            raise ConfigError(
                f"model.pack={run.model.pack}: {cls.__name__} says which expert made a sample, and a pack mixes "
                "samples of several experts, so it has no label. Take model/head=score with model.beta=0, or "
                "model.pack=1"
            )


class ScoreHead(Head):
    """One unbounded score per sample: a logit, or the value of a critic. The backbone initialises the layer."""

    def __init__(self, features: int, initialise_head: Initialise, spectral_norm: bool, head_bias: bool = True) -> None:
        super().__init__()
        self.score = dense(features, 1, initialise_head, spectral_norm, head_bias)

    def forward(self, features_NF: Tensor, detach_features: bool = False) -> DiscriminatorOutput:
        """Return the scores [N] and the features. There are no expert logits, so `detach_features` has no effect."""
        return DiscriminatorOutput(self.score(features_NF).squeeze(1), None, features_NF)


class TwoScoreHead(Head):
    """The scores of two discriminators, each with a body of its own: D2GAN (Nguyen et al. 2017)."""

    scores = bodies = 2

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the loss takes two scores, and that no penalty takes the gradient of one.

        Raises:
            ConfigError: one of them does not hold.
        """
        super().check_run(key, arguments, run)
        adversarial, penalty = run.objective.adversarial[TARGET], run.objective.penalty[TARGET]
        if attribute(adversarial, "scores") != cls.scores:
            raise ConfigError(
                f"objective.adversarial: {class_name(adversarial)} takes one score of a sample, and {cls.__name__} "
                "gives two. Take objective=d2gan, or model/head=score"
            )
        if attribute(penalty, "per_sample"):
            raise ConfigError(
                f"objective.penalty: {class_name(penalty)} takes the gradient of one score, and {cls.__name__} gives "
                "two. Take mixgan_cli.objectives.NoPenalty, or model/head=score"
            )

    def __init__(self, features: int, initialise_head: Initialise, spectral_norm: bool, head_bias: bool = True) -> None:
        super().__init__()
        scores = (dense(features, 1, initialise_head, spectral_norm, head_bias) for _ in range(self.scores))
        self.each = nn.ModuleList(scores)

    def forward(self, features_NF: Tensor, detach_features: bool = False) -> DiscriminatorOutput:
        """Return the scores [N, 2] and the features of both bodies. There are no expert logits."""
        own = features_NF.chunk(self.scores, dim=1)
        scores_NS = torch.cat([score(features) for score, features in zip(self.each, own, strict=True)], dim=1)
        return DiscriminatorOutput(scores_NS, None, features_NF)


class ClassifierHead(Head):
    """A score and a classifier of experts on the same features: D and C of MGGAN (Hoang et al. 2017).

    The expert logits depend on `form`:

    - general: a softmax over K experts (eq. 2);
    - one_vs_all: K sigmoids "expert k or another one" (eq. 3);
    - pairwise: K (K - 1)/2 sigmoids "expert i, not j" for i < j in lexicographic order (eq. 4).

    With `hidden`, the classifier has a hidden layer of so many units with leaky ReLU, as the Q of DMGAN's code
    (Khayatkhoei et al. 2018), where the features are not trained for the classifier.

    Raises:
        ConfigError: K = 1 and a form that compares experts.
    """

    classifies_experts = True

    def __init__(
        self,
        k: int,
        features: int,
        form: Form,
        initialise_head: Initialise,
        spectral_norm: bool,
        head_bias: bool = True,
        hidden: NonNegativeInt = 0,  # runs older than the key have none
    ) -> None:
        super().__init__()
        if k < 2 and form != "general":
            raise ConfigError(
                f"model.head.form={form}: compares experts, and model.k={k} has one. Use general, or model.k=2"
            )
        self.form = form
        self.score = dense(features, 1, initialise_head, spectral_norm, head_bias)
        logits = k * (k - 1) // 2 if form == "pairwise" else k
        if hidden:
            first = dense(features, hidden, initialise_head, spectral_norm, head_bias)
            last = dense(hidden, logits, initialise_head, spectral_norm, head_bias)
            self.experts: nn.Module = nn.Sequential(first, nn.LeakyReLU(0.2), last)
        else:
            self.experts = dense(features, logits, initialise_head, spectral_norm, head_bias)

    def forward(self, features_NF: Tensor, detach_features: bool = False) -> DiscriminatorOutput:
        """Return scores [N], expert logits [N, L] and features.

        With `detach_features`, the classifier does not send a gradient into the features.
        """
        logits_NL = self.experts(features_NF.detach() if detach_features else features_NF)
        return DiscriminatorOutput(self.score(features_NF).squeeze(1), logits_NL, features_NF)


class MulticlassHead(Head):
    r"""One softmax over "real" and each of the K experts: the discriminator of MAD-GAN (Ghosh et al. 2018).

    The K + 1 logits l_0 (real), l_1 … l_K are split into a score s = l_0 - log \sum_k exp(l_k), which is the logit of
    "real", and a classifier of experts on l_1 … l_K. Because log D_0 = -softplus(-s) and
    log D_k = -softplus(s) + log softmax(l_1 … l_K)_k, the losses of the other heads apply to this one unchanged.
    """

    classifies_experts = True

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the adversarial loss takes the score as a logit, and that the classifier gets its gradient.

        Raises:
            ConfigError: one of them does not hold, or the discriminator sees packs.
        """
        super().check_run(key, arguments, run)
        adversarial = run.objective.adversarial[TARGET]
        if not attribute(adversarial, "probabilistic"):
            raise ConfigError(
                f"objective.adversarial: {cls.__name__} is one softmax over real and K experts, a probability; "
                f"{class_name(adversarial)} takes the score for something else. Use objective=madgan, "
                "non_saturating or minimax, or model/head=classifier"
            )
        if run.objective.classifier.stop_gradient:
            raise ConfigError(
                f"objective.classifier.stop_gradient=true: {cls.__name__} has the same logits for both. "
                "Take false, or model/head=classifier"
            )

    def __init__(
        self, k: int, features: int, initialise_head: Initialise, spectral_norm: bool, head_bias: bool = True
    ) -> None:
        super().__init__()
        self.classes = dense(features, k + 1, initialise_head, spectral_norm, head_bias)

    def forward(self, features_NF: Tensor, detach_features: bool = False) -> DiscriminatorOutput:
        """Return scores [N], expert logits [N, K] and features.

        Scores and expert logits share one layer, so the gradient of the classifier alone cannot be stopped:
        `check_run` refuses `detach_features`.
        """
        logits_NC = self.classes(features_NF)
        scores_N = logits_NC[:, 0] - logits_NC[:, 1:].logsumexp(dim=1)
        return DiscriminatorOutput(scores_N, logits_NC[:, 1:], features_NF)


def dense(features: int, outputs: int, initialise: Initialise, spectral_norm: bool, bias: bool) -> nn.Module:
    """Return a dense layer of a head, initialised as the backbone says."""
    layer = nn.Linear(features, outputs, bias=bias)
    initialise(layer.weight, layer.bias if bias else layer.weight.new_empty(0), features)
    return with_spectral_norm(layer) if spectral_norm else layer
