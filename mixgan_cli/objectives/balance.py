"""Load balance: what keeps a learned gate from using few experts (MEGAN: Park et al. 2018)."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from mixgan_cli import ranks
from mixgan_cli.schedules import Exponential


class LoadBalance:
    r"""\sum_k (p_k - 1/K)², p_k the share of the batch that expert k gets; in the gate's loss with a weight w.

    Args:
        weight: w at the start.
        reduction: sum over k, as the paper; mean, as the released code (its weight is K times as large).
        counts: hard: one-hot weights, with their straight-through gradient (released code); soft: the relaxed
            weights (the HMoG author). For soft gates there is no difference.
        rate: w decays as exp(-rate t), t in generator steps; 0: not.
        least: and no further than this.
        every: how often it follows, in generator steps.
    """

    def __init__(
        self,
        weight: float,
        reduction: Literal["sum", "mean"],
        counts: Literal["hard", "soft"],
        rate: NonNegativeFloat,
        least: NonNegativeFloat,
        every: PositiveInt,
    ) -> None:
        self.reduction, self.counts = reduction, counts
        self.weight = Exponential(weight, rate, min(least, weight), every)
        """w, over time."""

    def __call__(self, weights_BK: Tensor, relaxed_BK: Tensor) -> Tensor:
        """Return the imbalance, without its weight: a scalar."""
        share_K = ranks.mean((weights_BK if self.counts == "hard" else relaxed_BK).mean(dim=0))
        error_K = (share_K - 1 / len(share_K)).square()
        return error_K.sum() if self.reduction == "sum" else error_K.mean()
