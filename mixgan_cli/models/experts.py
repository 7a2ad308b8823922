"""Experts: what each of the K generators does to z before the shared trunk.

All K are one matrix product: no loop over K, and no weight matrix per sample. A new kind is a class like these, and a
YAML in conf/model/experts/.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mixgan_cli.models.initialise import Initialise


class Experts(nn.Module):
    """What experts offer: their call, latents [B, Z] to every expert's output [B, K, H], and their mixture."""

    def mix(self, latent_BZ: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_i a_i G_i(z), [B, H]. Where a formula is cheaper than all K outputs, a kind says it."""
        return torch.einsum("bk,bkh->bh", weights_BK, self(latent_BZ))


class LinearExperts(Experts):
    """G_i(z) = W_i z + w_i0, the leaves of MoG and HMoG. W ~ N(0, 1/Z), biases 0. Parameters: K H (Z + 1)."""

    def __init__(self, k: int, latent_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_KZH = nn.Parameter(torch.randn(k, latent_size, hidden_size) / math.sqrt(latent_size))
        self.bias_KH = nn.Parameter(torch.zeros(k, hidden_size))

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return every expert's output [B, K, H]."""
        return torch.einsum("bz,kzh->bkh", latent_BZ, self.weight_KZH) + self.bias_KH

    def mix(self, latent_BZ: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_i a_i (W_i z + w_i0), [B, H], as one product (a \otimes z) [W_1; …; W_K] + a w_0."""
        weighted = (weights_BK.unsqueeze(2) * latent_BZ.unsqueeze(1)).flatten(1)
        return torch.addmm(weights_BK @ self.bias_KH, weighted, self.weight_KZH.flatten(0, 1))


class ConstantExperts(Experts):
    """G_i(z) = c_i, the ablation of MoG and HMoG: the mixture stays in the convex hull of the c_i ~ N(0, 1)."""

    def __init__(self, k: int, latent_size: int, hidden_size: int) -> None:
        super().__init__()
        self.constant_KH = nn.Parameter(torch.randn(k, hidden_size))

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return every expert's output [B, K, H]."""
        return self.constant_KH.expand(len(latent_BZ), -1, -1)

    def mix(self, latent_BZ: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_i a_i c_i, [B, H]."""
        return weights_BK @ self.constant_KH


class DenseExperts(Experts):
    """ReLU(W_i z + w_i0), the first layer of a plain DCGAN. Initialised as the backbone's layers are."""

    def __init__(self, k: int, latent_size: int, hidden_size: int, initialise: Initialise) -> None:
        super().__init__()
        self.weight_KZH = nn.Parameter(torch.empty(k, latent_size, hidden_size))
        self.bias_KH = nn.Parameter(torch.empty(k, hidden_size))
        initialise(self.weight_KZH, self.bias_KH, latent_size)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return every expert's output [B, K, H]."""
        return (torch.einsum("bz,kzh->bkh", latent_BZ, self.weight_KZH) + self.bias_KH).relu()
