"""A learned prior over experts: which expert makes a sample does not depend on z (Khayatkhoei et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixgan_cli.models.experts import Experts, one_hot_like
from mixgan_cli.models.gates import Gate, GateWeights
from mixgan_cli.models.gumbel import gumbel_noise


class PriorGate(Gate):
    r"""Each sample comes from one expert, drawn from r = softmax(\rho), \rho [K] learned and 0 at first.

    No loss on generated samples has a gradient with respect to \rho: r follows from the terms of the gate,
    `LearnedPrior` and `PriorEntropy`. Without them it stays 1/K. Experts that the data do not need get r_k near 0. All
    experts run on all latents, so their batch norm sees whole batches and a CUDA graph can hold the step.

    Args:
        k: number of experts.
    """

    hard = True
    differentiable = False

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.logits_K = nn.Parameter(torch.zeros(k))

    def expert_prior(self) -> Tensor:
        """Return r, [K]."""
        return self.logits_K.softmax(dim=0)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return one-hot weights [B, K] of experts drawn from r."""
        logits_BK = self.logits_K.detach().expand(len(latent_BZ), -1)
        noisy_BK = logits_BK + gumbel_noise(logits_BK, self.training)  # its maximum is distributed as softmax(logits)
        return one_hot_like(noisy_BK.argmax(dim=1), self.k, latent_BZ)

    def weights(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> GateWeights:
        """Return one-hot weights [B, K] and, as what they were drawn from, r in each row [B, K]."""
        return GateWeights(self(latent_BZ), self.probabilities(latent_BZ, inputs, experts))

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return r in each row, [B, K]."""
        return self.expert_prior().expand(len(latent_BZ), -1)
