"""MAD-GAN-Sim: experts compete for the discriminator's favour, the more the more alike they are (Ghosh et al. 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize


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
