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

from torch import Tensor
from torch.nn.functional import softplus

from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError


class Adversarial(ABC):
    """The interface of an adversarial loss."""

    probabilistic = False
    """True if the score is the logit of a probability."""
    zero_centred = False
    """True if a score above 0 says that a sample is real, and one below 0 that it is generated."""

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


class PairedAdversarial(ABC):
    """The interface of an adversarial loss on pairs of a real and a generated sample: see `objectives.pairing`."""

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
