"""Gates: how the experts combine. A gate maps latents [B, Z] to weights [B, K] whose rows sum to 1.

A new gate is a class like these, and a YAML in conf/model/gate/. Most say `forward` alone; a gate that looks at the
experts, or hands each its own part of the batch, overrides `weights` or `mix`. Sources: MGGAN (uniform): Hoang et al.
2017, section 3. MoG and HMoG: Ahmetoglu & Alpaydin 2019 (thesis, eqs. me-gan1, hm_mix). MEGAN's gate is in gumbel.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.experts import Experts, one_hot_like
from mixgan_cli.runtime.random import uniform


class GateWeights(NamedTuple):
    """A gate's answer: weights [B, K], and what they were before they were made one-hot (the same for soft gates)."""

    weights_BK: Tensor
    relaxed_BK: Tensor


class Gate(nn.Module):
    """What every gate offers: its call, latents [B, Z] to weights [B, K], and what the rest may ask of it."""

    k: int
    """The number of experts."""
    hard: bool
    """Whether the rows are one-hot, so that each sample is one expert's alone."""
    trainable = True
    """Whether there is anything to learn; if not, there is nothing to balance either."""
    experts_per_latent = 1
    """How many experts each latent is given to while training: 1, or K."""
    hierarchical = False
    """Whether the experts are the leaves of a binary tree, from left to right."""
    min_batch = 1
    """How many samples a training batch needs, for the gate's own batch norm."""
    splits_batch = False
    """Whether each expert makes its own equal share of a training batch, share after share."""

    def weights(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> GateWeights:
        """Return the weights; `inputs` [B, …] is what the experts see, the latents unless they share a stem."""
        weights_BK = self(latent_BZ)
        return GateWeights(weights_BK, weights_BK)

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        r"""Return \sum_k a_k G_k, [B, …], and the weights a."""
        with no_autocast(latent_BZ):
            weights = self.weights(latent_BZ, inputs, experts)
        return experts.mix(inputs, weights.weights_BK), weights

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return the mean [B, K] of the weights over what the gate draws; where it draws nothing, the weights."""
        return self.weights(latent_BZ, inputs, experts).weights_BK

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the gate's own optimiser and a load balance move."""
        return list(self.parameters())

    def anneal(self, factor: float) -> None:
        """Scale what the gate's `schedule` is about, such as a temperature, to this factor of its configured value."""
        raise ConfigError(
            f"model.gate.schedule: {type(self).__name__} has nothing that a schedule could scale. Take null"
        )


def no_autocast(like: Tensor) -> torch.autocast:
    """No autocast inside, on the device of a tensor of any shape: in bfloat16 the weights would not sum to 1."""
    return torch.autocast(like.device.type, enabled=False)


class NoGate(Gate):
    """One expert with weight 1. Raises ConfigError for K > 1."""

    hard = True
    trainable = False

    def __init__(self, k: int) -> None:
        super().__init__()
        if k != 1:
            raise ConfigError(f"model.k={k}: without a gate there is one expert. Take model.k=1, or a model/gate")
        self.k = k

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return ones [B, 1]."""
        return latent_BZ.new_ones(len(latent_BZ), 1)


class UniformGate(Gate):
    """Every expert makes as many samples as any other, whatever z: the gate of MGGAN and MADGAN.

    While training, expert k makes the k-th of K equal consecutive parts of the batch; with `same_latents` all make
    theirs from the same latents (MGGAN's released code). In eval mode the choice is random, stratified over the batch.
    Nothing is computed by an expert that does not count.
    """

    hard = True
    trainable = False
    splits_batch = True

    def __init__(self, k: int, same_latents: bool) -> None:
        super().__init__()
        self.k = k
        self.experts_per_latent = k if same_latents else 1

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return one-hot weights [B, K]."""
        return one_hot_like(self._slots(latent_BZ) // self._share(latent_BZ), self.k, latent_BZ)

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        """Return each sample as its expert made it, [B, …], and the one-hot weights.

        Raises:
            ValueError: a training batch that K does not divide.
        """
        slot_B, share = self._slots(latent_BZ), self._share(latent_BZ)
        if self.training:
            made = experts(inputs.unflatten(0, (self.k, share))).flatten(0, 1)
        else:
            queue = inputs.new_zeros(self.k * share, *inputs.shape[1:])
            queue[slot_B] = inputs
            made = experts(queue.unflatten(0, (self.k, share))).flatten(0, 1)[slot_B]
        weights_BK = one_hot_like(slot_B // share, self.k, latent_BZ)
        return made, GateWeights(weights_BK, weights_BK)

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return 1/K everywhere, [B, K]."""
        return latent_BZ.new_full((len(latent_BZ), self.k), 1 / self.k)

    def _share(self, latent_BZ: Tensor) -> int:
        """How many samples an expert makes, at most."""
        if self.training and len(latent_BZ) % self.k:
            raise ValueError(f"{len(latent_BZ)} latents are no equal shares for {self.k} experts")
        return -(-len(latent_BZ) // self.k)

    def _slots(self, latent_BZ: Tensor) -> Tensor:
        """Where in the experts' queues each sample stands, [B]: slot s is expert s // share's."""
        if self.training:
            return torch.arange(len(latent_BZ), device=latent_BZ.device)
        slots = torch.randperm(self.k * self._share(latent_BZ))  # on the CPU: a seed means the same on every device
        return slots[: len(latent_BZ)].to(latent_BZ.device)


class SoftmaxGate(Gate):
    """a = softmax(V z + v_0), the gate of MoG. Parameters: K (Z + 1), Xavier normal, biases 0."""

    hard = False

    def __init__(self, k: int, latent_size: int, dropout: float) -> None:
        super().__init__()
        self.k = k
        self.dropout = LeafDropout(dropout)
        self.logits = nn.Linear(latent_size, k)
        nn.init.xavier_normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return the weights [B, K]."""
        return self.dropout(self.logits(latent_BZ).softmax(dim=1))


class TreeGate(Gate):
    r"""A complete binary tree of soft splits, the gate of HMoG: K leaves, K - 1 nodes.

    Node m sends \sigma_m(z) = sigmoid(v_m z + v_m0) of its density to its left child 2m + 1 and the rest to its right
    child 2m + 2; a leaf's weight is the product along its path. Parameters: (K - 1)(Z + 1), v ~ N(0, 1/Z), biases 0.

    Raises:
        ConfigError: K is not a power of two.
    """

    hard = False
    hierarchical = True

    def __init__(self, k: int, latent_size: int, dropout: float) -> None:
        super().__init__()
        if k < 1 or k & (k - 1):
            lower = 1 << max(k, 1).bit_length() - 1
            raise ConfigError(
                f"model.k={k}: a complete binary tree has a power of two of leaves. Take model.k={lower} or {2 * lower}"
            )
        self.k = k
        self.depth = k.bit_length() - 1
        self.dropout = LeafDropout(dropout)
        self.splits = nn.Linear(latent_size, k - 1) if k > 1 else None
        if self.splits is not None:
            nn.init.normal_(self.splits.weight, std=1 / math.sqrt(latent_size))
            nn.init.zeros_(self.splits.bias)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return the leaves' weights [B, K], left to right."""
        return self.dropout(self.levels(latent_BZ)[-1])

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


class LeafDropout(nn.Module):
    """While training, leave out each expert with a probability, and let the others' weights sum to 1 again.

    The HMoG author's code has such an option and never sets it. Where nothing of a sample would be left, all of it
    stays. Raises ConfigError unless 0 ≤ probability < 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ConfigError(f"model.gate.dropout={probability}: a probability, from 0 up to but not 1")
        self.probability = probability

    def forward(self, weights_BK: Tensor) -> Tensor:
        """Return the weights [B, K] of those that stay."""
        if not self.training or not self.probability:
            return weights_BK
        kept_BK = weights_BK * (
            uniform(*weights_BK.shape, device=weights_BK.device, dtype=weights_BK.dtype) >= self.probability
        )
        total_B1 = kept_BK.sum(dim=1, keepdim=True)
        least = torch.finfo(weights_BK.dtype).tiny
        return torch.where(total_B1 > least, kept_BK / total_B1.clamp_min(least), weights_BK)
