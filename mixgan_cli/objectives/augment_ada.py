"""The controller of StyleGAN2-ADA, which sets the strength of an augmentation by the discriminator's overfitting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mixgan_cli.config.components import SCHEDULE, TARGET, attribute, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime import distributed


class AdaptiveStrength(nn.Module):
    """A probability p that rises while the discriminator is too sure of real images (Karras et al. 2020, section 3).

    r is the mean of sign D(T(x)) over the augmented real images of the last `every` iterations, the paper's r_t. Then
    p ← max(0, p + sign(r - target) · (their number) / rise). All of it stays on the device and is part of checkpoints.

    Args:
        p: the first value.
        target: of r.
        every: iterations (generator steps) between two changes of p.
        rise: number of real images in which p changes by 1.
    """

    p: Tensor
    """The probability, a scalar. It is not bounded above: more than 1 acts as 1."""
    signs: Tensor
    """Since the last change: the sum of the signs, the number of scores, and that of iterations, [3]."""

    def __init__(self, p: float, target: float, every: int, rise: int) -> None:
        super().__init__()
        self.target, self.every, self.rise = target, every, rise
        self.register_buffer("p", torch.tensor(p))
        self.register_buffer("signs", torch.zeros(3))

    @staticmethod
    def check_run(key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that scores of the run's loss have signs with a meaning, and that nothing else changes p.

        Raises:
            ConfigError: the loss depends only on differences of scores or has other targets, or p has a schedule.
        """
        loss = run.objective.adversarial[TARGET]
        if not attribute(loss, "zero_centred"):
            raise ConfigError(
                f"{key}.target: the sign of a score has no meaning in {class_name(loss)}. Take a loss whose scores are "
                f"centred at 0, such as objective=non_saturating, r1 or hinge; or null, and {key}.p or a schedule of it"
            )
        if arguments.get(SCHEDULE):
            raise ConfigError(f"{key}.{SCHEDULE}: p follows the discriminator, see {key}.target. Take null for one")

    @torch.no_grad()
    def observe(self, scores_N: Tensor) -> None:
        """Count the scores of a step's augmented real images [N] on this rank. Scores that are not numbers count 0."""
        sign = (scores_N > 0).sum() - (scores_N < 0).sum()
        # each rank estimates the sum over all ranks, and `adapt` takes the mean of their estimates
        self.signs[:2] += distributed.sync_size() * torch.stack((sign, torch.full_like(sign, len(scores_N))))

    @torch.no_grad()
    def adapt(self) -> None:
        """End an iteration: change p if it is time. All ranks must call it."""
        self.signs[2] += 1
        distributed.average_([self.signs])
        total, n, iterations = self.signs
        due = (iterations >= self.every).to(self.p)
        change = (total / n.clamp(min=1) - self.target).sign() * n / self.rise
        self.p.add_(due * change).clamp_(min=0)
        self.signs *= 1 - due
