"""Adversarial losses on raw scores [N], as the network gives them, before any sigmoid.

Each class has `discriminator(real, fake)` and `generator(fake)`, both to be minimised, each a mean over its batch. Real
and fake batches are averaged apart and then summed, never halved. A new loss is a class with these two, and a YAML in
conf/objective/.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


class Wasserstein:
    """L_D = -E D(x) + E D(G(z)), L_G = -E D(G(z)) (Arjovsky et al. 2017, eq. 2)."""

    def discriminator(self, real_N: Tensor, fake_N: Tensor) -> Tensor:
        """Return the critic's loss, a scalar."""
        return fake_N.mean() - real_N.mean()

    def generator(self, fake_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return -fake_N.mean()


class Minimax:
    """L_D = -E log D(x) - E log(1 - D(G(z))), L_G = E log(1 - D(G(z))) (Goodfellow et al. 2014, eq. 1)."""

    def discriminator(self, real_N: Tensor, fake_N: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar."""
        return softplus(-real_N).mean() + softplus(fake_N).mean()

    def generator(self, fake_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return -softplus(fake_N).mean()


class NonSaturating(Minimax):
    """As the minimax game, but L_G = -E log D(G(z)) (Goodfellow et al. 2014, section 3)."""

    def generator(self, fake_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return softplus(-fake_N).mean()


class LeastSquares:
    """L_D = ½ E (D(x) - 1)² + ½ E D(G(z))², L_G = ½ E (D(G(z)) - 1)² (Mao et al. 2017, the 0-1 coding)."""

    def discriminator(self, real_N: Tensor, fake_N: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar."""
        return ((real_N - 1).square().mean() + fake_N.square().mean()) / 2

    def generator(self, fake_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return (fake_N - 1).square().mean() / 2


class Hinge:
    """L_D = E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))), L_G = -E D(G(z)) (Miyato et al. 2018, eqs. 16, 17)."""

    def discriminator(self, real_N: Tensor, fake_N: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar."""
        return (1 - real_N).relu().mean() + (1 + fake_N).relu().mean()

    def generator(self, fake_N: Tensor) -> Tensor:
        """Return the generator's loss, a scalar."""
        return -fake_N.mean()
