"""Gates: how the experts combine. A gate maps latents [B, Z] to weights [B, K] whose rows sum to 1.

A new gate is a class like these, and a YAML in conf/model/gate/.
Source of the formulas: Ahmetoglu & Alpaydin, Hierarchical Mixtures of Generators, 2019 (thesis, eqs. me-gan1, hm_mix).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError


class Gate(nn.Module):
    """What every gate offers: its call, latents [B, Z] to weights [B, K], and what the rest may ask of it."""

    k: int
    """The number of experts."""
    hard: bool
    """Whether the rows are one-hot, so that each sample is one expert's alone."""


class NoGate(Gate):
    """One expert with weight 1. Raises ConfigError for K > 1."""

    hard = True

    def __init__(self, k: int, latent_size: int) -> None:
        super().__init__()
        if k != 1:
            raise ConfigError(f"model.k={k}: without a gate there is one expert. Take model.k=1, or a model/gate")
        self.k = k

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return ones [B, 1]."""
        return latent_BZ.new_ones(len(latent_BZ), 1)


class SoftmaxGate(Gate):
    """a = softmax(V z + v_0), the gate of MoG. Parameters: K (Z + 1), Xavier normal, biases 0."""

    hard = False

    def __init__(self, k: int, latent_size: int) -> None:
        super().__init__()
        self.k = k
        self.logits = nn.Linear(latent_size, k)
        nn.init.xavier_normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return the weights [B, K]."""
        return self.logits(latent_BZ).softmax(dim=1)


class TreeGate(Gate):
    r"""A complete binary tree of soft splits, the gate of HMoG: K leaves, K - 1 nodes.

    Node m sends \sigma_m(z) = sigmoid(v_m z + v_m0) of its density to its left child 2m + 1 and the rest to its right
    child 2m + 2; a leaf's weight is the product along its path. Parameters: (K - 1)(Z + 1), v ~ N(0, 1/Z), biases 0.

    Raises:
        ConfigError: K is not a power of two.
    """

    hard = False

    def __init__(self, k: int, latent_size: int) -> None:
        super().__init__()
        if k < 1 or k & (k - 1):
            lower = 1 << max(k, 1).bit_length() - 1
            raise ConfigError(
                f"model.k={k}: a complete binary tree has a power of two of leaves. Take model.k={lower} or {2 * lower}"
            )
        self.k = k
        self.depth = k.bit_length() - 1
        self.splits = nn.Linear(latent_size, k - 1) if k > 1 else None
        if self.splits is not None:
            nn.init.normal_(self.splits.weight, std=1 / math.sqrt(latent_size))
            nn.init.zeros_(self.splits.bias)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return the leaves' weights [B, K], left to right."""
        return self.levels(latent_BZ)[-1]

    def levels(self, latent_BZ: Tensor) -> list[Tensor]:
        """Return the nodes' densities level by level, [B, 1], [B, 2], …, [B, K]; each row sums to 1."""
        densities = [latent_BZ.new_ones(len(latent_BZ), 1)]
        if self.splits is None:
            return densities
        left = self.splits(latent_BZ).sigmoid()
        for level in range(self.depth):
            parents = densities[-1]
            to_left = left[:, 2**level - 1 : 2 ** (level + 1) - 1]
            children = torch.stack((parents * to_left, parents * (1 - to_left)), dim=2)
            densities.append(children.flatten(1))
        return densities
