"""Adversarial losses on raw scores [N]: the output of the network, before any sigmoid.

An `Adversarial` has three losses, all minimised: `real` and `fake`, whose sum is the discriminator's loss, and
`generator`. Each is a mean over its batch, which only least squares halves. A `PairedAdversarial` compares the scores
of real and generated samples pair by pair, so it has two losses, `discriminator` and `generator`, and the generator's
step is given real samples, too. A new loss is a subclass of one of the two, and a YAML file in conf/objective/. If it
is part of mixgan, this package exports it in `__all__`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import softplus

from mixgan_cli.config.components import TARGET, attribute, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError


class Adversarial(ABC):
    """The interface of an adversarial loss."""

    probabilistic = False
    """True if the score is the logit of a probability."""
    zero_centred = False
    """True if a score above 0 says that a sample is real, and one below 0 that it is generated."""
    scores = 1
    """S, the number of scores for a sample; if there are several, the losses get them as [N, S]."""

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that generated samples may have the weight of this run.

        Raises:
            ConfigError: they weigh K times as much, and the loss balances real against fake scores.
        """
        if run.objective.fake_weight == "k" and not cls.probabilistic:
            raise ConfigError(f"objective.fake_weight=k: {cls.__name__} balances real against fake scores; take one")

    @abstractmethod
    def real(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on real samples, a scalar."""

    @abstractmethod
    def fake(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on generated samples, a scalar."""

    @abstractmethod
    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""


class Wasserstein(Adversarial):
    """L_D = -E D(x) + E D(G(z)), L_G = -E D(G(z)) (Arjovsky et al. 2017, eq. 2)."""

    def real(self, score_N: Tensor) -> Tensor:
        """Return the critic's loss on real samples, a scalar."""
        return -score_N.mean()

    def fake(self, score_N: Tensor) -> Tensor:
        """Return the critic's loss on generated samples, a scalar."""
        return score_N.mean()

    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return -score_N.mean()


class Minimax(Adversarial):
    """L_D = -E log D(x) - E log(1 - D(G(z))), L_G = E log(1 - D(G(z))) (Goodfellow et al. 2014, eq. 1)."""

    probabilistic = True
    zero_centred = True

    def real(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on real samples, a scalar."""
        return softplus(-score_N).mean()

    def fake(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on generated samples, a scalar."""
        return softplus(score_N).mean()

    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return -softplus(score_N).mean()


class NonSaturating(Minimax):
    """The same as `Minimax`, except L_G = -E log D(G(z)) (Goodfellow et al. 2014, section 3)."""

    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return softplus(-score_N).mean()


class TermsOnly(NonSaturating):
    """The same for the discriminator; the generator has no adversarial loss, L_G = 0 (Salimans et al. 2016).

    Its loss are its terms, such as feature matching.
    """

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the generator has a term.

        Raises:
            ConfigError: it has none, so it would learn nothing.
        """
        super().check_run(key, arguments, run)
        terms = run.objective.terms.values()
        if not any(attribute(term[TARGET], "network") == "generator" and term.get("weight") for term in terms):
            raise ConfigError(
                f"{key}: with {cls.__name__} the generator's loss are its terms, and it has none. Take "
                "objective/terms=feature_matching, or objective=non_saturating"
            )

    def generator(self, score_N: Tensor) -> Tensor:
        """Return 0, a scalar."""
        return score_N.new_zeros(())


class LeastSquares(Adversarial):
    """L_D = ½ E (D(x) - 1)² + ½ E D(G(z))², L_G = ½ E (D(G(z)) - 1)² (Mao et al. 2017, the 0-1 coding)."""

    def real(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on real samples, a scalar."""
        return (score_N - 1).square().mean() / 2

    def fake(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on generated samples, a scalar."""
        return score_N.square().mean() / 2

    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return (score_N - 1).square().mean() / 2


class Hinge(Adversarial):
    """L_D = E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), L_G = -E D(G(z)) (Miyato et al. 2018, eqs. 16, 17)."""

    zero_centred = True

    def real(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on real samples, a scalar."""
        return (1 - score_N).relu().mean()

    def fake(self, score_N: Tensor) -> Tensor:
        """Return the discriminator's loss on generated samples, a scalar."""
        return (1 + score_N).relu().mean()

    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return -score_N.mean()


class DualDiscriminator(Adversarial):
    r"""D2GAN: two discriminators with positive outputs D_1 and D_2 (Nguyen et al. 2017).

    J = \alpha E log D_1(x) - E D_1(G(z)) - E D_2(x) + \beta E log D_2(G(z)); the discriminators maximise it, the
    generator minimises it. D = softplus(score), as in the released code. At the best D_1 = \alpha p/q and
    D_2 = \beta q/p, the generator minimises \alpha KL(p ‖ q) + \beta KL(q ‖ p).

    Args:
        alpha: the paper's \alpha, weight of KL(p ‖ q).
        beta: the paper's \beta, weight of KL(q ‖ p).
    """

    scores = 2

    def __init__(self, alpha: PositiveFloat, beta: PositiveFloat) -> None:
        self.alpha, self.beta = alpha, beta

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the discriminator's head gives two scores, and that generated samples weigh as much as real ones.

        Raises:
            ConfigError: one of them does not hold.
        """
        super().check_run(key, arguments, run)
        head = run.model.head[TARGET]
        if attribute(head, "scores") != cls.scores:
            raise ConfigError(
                f"model.head: {class_name(head)} gives one score of a sample, and {cls.__name__} takes two. Take "
                "model/head=dual, or another objective"
            )

    def real(self, score_N: Tensor) -> Tensor:
        """Return the discriminators' loss on the scores of real samples [N, 2], a scalar."""
        first_N, second_N = score_N.unbind(dim=1)
        return softplus(second_N).mean() - self.alpha * log_softplus(first_N).mean()

    def fake(self, score_N: Tensor) -> Tensor:
        """Return the discriminators' loss on the scores of generated samples [N, 2], a scalar."""
        first_N, second_N = score_N.unbind(dim=1)
        return softplus(first_N).mean() - self.beta * log_softplus(second_N).mean()

    def generator(self, score_N: Tensor) -> Tensor:
        """Return the generator's loss on the scores of its samples [N, 2], a scalar."""
        return -self.fake(score_N)


def log_softplus(values: Tensor) -> Tensor:
    """Return log softplus(v), the log D of D2GAN's paper, for values v of any shape.

    Value and gradient are finite for any finite v.

    For v ≤ -15, softplus(v) = e^v - e^2v/2 + …, so its logarithm is v - e^v/2 to the precision of float64.
    """
    low = values <= -15
    inner = torch.where(low, 0, values)  # where the other branch is taken, its gradient must not be infinite
    return torch.where(low, values - values.clamp_max(-15).exp() / 2, softplus(inner).log())


class PairedAdversarial(ABC):
    """The interface of an adversarial loss on pairs of a real and a generated sample: see `objectives.pairing`."""

    scores = 1
    """S, the number of scores for a sample."""
    probabilistic = False
    zero_centred = False
    """Both false: only differences of scores have a meaning."""

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that pairs can have equal weights, and that both steps get real samples from all of the set.

        Raises:
            ConfigError: generated samples weigh K times as much, or the order of the real samples is fixed.
        """
        if run.objective.fake_weight == "k":
            raise ConfigError(f"objective.fake_weight=k: {cls.__name__} weighs pairs of a real and a fake; take one")
        if not run.training.shuffle:
            raise ConfigError(
                f"training.shuffle=false: with {cls.__name__} the steps of discriminator and generator take the "
                "batches in turn, and in a fixed order the discriminator might never see some images. Take true"
            )

    @abstractmethod
    def discriminator(self, real_P: Tensor, fake_P: Tensor) -> Tensor:
        """Return the discriminator's loss on the scores of pairs, a scalar."""

    @abstractmethod
    def generator(self, real_P: Tensor, fake_P: Tensor) -> Tensor:
        """Return the generator's loss on the scores of pairs, a scalar."""


class RelativisticPairing(PairedAdversarial):
    """L_D = E softplus(-(D(x) - D(G(z)))), L_G = E softplus(-(D(G(z)) - D(x))) (Huang et al. 2024, eq. 2).

    Adding a constant to all scores changes nothing.
    """

    def discriminator(self, real_P: Tensor, fake_P: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar."""
        return softplus(fake_P - real_P).mean()

    def generator(self, real_P: Tensor, fake_P: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return softplus(real_P - fake_P).mean()
