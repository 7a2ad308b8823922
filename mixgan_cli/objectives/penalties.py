"""Penalties on the discriminator beside its adversarial loss.

A penalty maps (score, real, fake) to a scalar to be added, `score` being the function samples [N, …] → scores [N]; or
to None where there is nothing to add. Reals and fakes may not be as many. A new one is a class with this call, and a
key `penalty` in an objective's YAML.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mixgan_cli.runtime.random import uniform

Score = Callable[[Tensor], Tensor]


class NoPenalty:
    """Nothing is added, whatever the score of real and fake samples [N, …]."""

    def __call__(self, score: Score, real: Tensor, fake: Tensor) -> Tensor | None:
        """Return None."""
        return None


class GradientPenalty:
    r"""weight · E (‖∇D(x̂)‖₂ - 1)², x̂ = x + α (G(z) - x), α ~ U(0, 1) a sample (Gulrajani et al. 2017, eq. 3).

    `norm: sample` takes the gradient's norm over the whole sample, as the paper. `norm: pixel` takes it over the
    channels only, at each pixel, as both of the HMoG author's repositories do; for points the two are the same. Samples
    are [N, …], their scores [N].
    """

    per_sample = True
    """It takes the discriminator for a function of each sample alone, so that batch norm in it does harm."""

    def __init__(self, weight: float, norm: Literal["sample", "pixel"]) -> None:
        self.weight, self.norm = weight, norm

    def __call__(self, score: Score, real: Tensor, fake: Tensor) -> Tensor:
        """Return the weighted penalty, a scalar; its gradient goes through ∇D."""
        real, fake = _pairs(real, fake)
        alpha = uniform(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        between = torch.lerp(real, fake, alpha).requires_grad_()
        (gradient,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
        if self.norm == "sample":
            gradient = gradient.flatten(1)
        return self.weight * (gradient.norm(dim=1) - 1).square().mean()


def _pairs(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return as many fakes as reals; where there are more, a random choice, as experts come in turn."""
    if len(fake) == len(real):
        return real, fake
    n = min(len(fake), len(real))
    return real[:n], fake[uniform(len(fake), device=fake.device).argsort()[:n]]
