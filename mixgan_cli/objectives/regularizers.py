"""Terms for the generator's side besides the adversarial loss: load balance and competition."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mixgan_cli.runtime import distributed


class LoadBalance:
    r"""\sum_k (p_k - 1/K)², p_k the share of the batch that expert k gets; in the gate's loss with a weight w.

    Args:
        weight: w, which the component's `schedule` scales over the run.
        reduction: sum over k, as the paper; mean, as the released code (its weight is K times as large).
        counts: hard: one-hot weights, with their straight-through gradient (released code); soft: the relaxed
            weights (the HMoG author). For soft gates there is no difference.
    """

    def __init__(
        self,
        weight: float,
        reduction: Literal["sum", "mean"],
        counts: Literal["hard", "soft"],
    ) -> None:
        self.reduction, self.counts = reduction, counts
        self.weight = weight

    def __call__(self, weights_BK: Tensor, relaxed_BK: Tensor) -> Tensor:
        """Return the imbalance, without its weight: a scalar."""
        share_K = distributed.mean((weights_BK if self.counts == "hard" else relaxed_BK).mean(dim=0))
        error_K = (share_K - 1 / len(share_K)).square()
        return error_K.sum() if self.reduction == "sum" else error_K.mean()


class Competition:
    r"""weight · E max(0, R_i - D(G_i(z))), R_i the others' D(G_j(z)) + cos(φ(G_i(z)), φ(G_j(z))), averaged over j ≠ i.

    An expert's score must beat the others' scores plus its likeness to them, at the same latent; φ are the
    discriminator's features, D its probability. Only D(G_i(z)) carries a gradient in the author's code, so likeness
    decides when to push, and not whither; `through_similarity` back-propagates R_i too, which is another method.

    Args:
        weight: 1e-4 for the author's DCGAN.
        others: mean over the others, or the max.
        through_similarity: see above.
    """

    def __init__(self, weight: float, others: Literal["mean", "max"], through_similarity: bool) -> None:
        self.weight, self.others, self.through_similarity = weight, others, through_similarity

    def __call__(self, score_N: Tensor, features_NF: Tensor, k: int) -> Tensor:
        """Return the weighted term, a scalar; the samples are K equal parts, made of the same latents in one order."""
        probability_KB = score_N.sigmoid().unflatten(0, (k, -1))
        if not self.through_similarity:
            features_NF = features_NF.detach()
        direction_KBF = normalize(features_NF, dim=1).unflatten(0, (k, -1))
        alike_KKB = torch.einsum("ibf,jbf->ijb", direction_KBF, direction_KBF)
        rival_scores_KB = probability_KB if self.through_similarity else probability_KB.detach()
        rivals_KKB = rival_scores_KB.unsqueeze(0) + alike_KKB
        itself = torch.eye(k, dtype=torch.bool, device=score_N.device).unsqueeze(2)
        if self.others == "mean":
            rival_KB = rivals_KKB.masked_fill(itself, 0).sum(dim=1) / (k - 1)
        else:
            rival_KB = rivals_KKB.masked_fill(itself, -torch.inf).amax(dim=1)
        return self.weight * (rival_KB - probability_KB).relu().mean()
