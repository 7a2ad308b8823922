"""Gates: how the mixture weights its experts. A gate maps latents [B, Z] to weights [B, K] whose rows sum to 1.

A new gate is a subclass of `Gate` and a YAML file in conf/model/gate/. Most gates define `forward` only. A gate that
reads the experts' outputs overrides `weights`; a gate that sends different latents to different experts overrides
`mix`. MEGAN's gate is in gumbel.py, a learned prior over experts in prior.py.

Sources: MGGAN (uniform): Hoang et al. 2017, section 3. MoG and HMoG: Ahmetoglu 2019 (thesis, eqs. me-gan1
and hm_mix).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from mixgan_cli.config import expert_counts
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.experts import Experts, one_hot_like
from mixgan_cli.models.layers import LossWeights
from mixgan_cli.runtime.random import uniform

Probability = Annotated[float, Field(ge=0, lt=1)]


class GateWeights(NamedTuple):
    """The weights [B, K] and, for hard gates, the relaxed weights [B, K] that they were drawn from (else the same)."""

    weights_BK: Tensor
    relaxed_BK: Tensor


class Gate(nn.Module):
    """The base class of gates. `forward(latent_BZ)` returns the weights [B, K]; each row sums to 1."""

    k: int
    """The number of experts."""
    hard: bool
    """If true, the rows of the weights are one-hot: each sample comes from a single expert."""
    trainable = True
    """If true, the gate has parameters that an optimiser and a load balance can train."""
    differentiable = True
    """If true, the weights have a gradient with respect to the gate's parameters, for hard gates straight-through."""
    experts_per_latent = 1
    """How many experts receive each latent in training: 1, or K."""
    hierarchical = False
    """If true, the experts are the leaves of a binary tree, from left to right."""
    min_batch = 1
    """Smallest training batch [samples] that the gate's own batch norm accepts."""
    splits_batch = False
    """If true, expert k generates the k-th of K equal, consecutive parts of a training batch."""
    separate = False
    """If true, the layers that experts share run on each of these parts alone, which matters for batch norm."""

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that an optimiser of the gate has parameters.

        Raises:
            ConfigError: the gate learns nothing.
        """
        if run.objective.optimizer.gate and not cls.trainable:
            raise ConfigError(f"objective.optimizer.gate: {cls.__name__} learns nothing; take null")

    def weights(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> GateWeights:
        """Return the weights [B, K].

        Args:
            latent_BZ: the latents.
            inputs: what the experts receive [B, …]: the latents, or the output of the stem that the experts share.
            experts: the experts, for a gate that reads their outputs.
        """
        weights_BK = self(latent_BZ)
        return GateWeights(weights_BK, weights_BK)

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        r"""Return the mixture \sum_k a_k G_k, [B, …], and the weights a. The arguments are those of `weights`."""
        with no_autocast(latent_BZ):
            weights = self.weights(latent_BZ, inputs, experts)
        return experts.mix(inputs, weights.weights_BK), weights

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return the expected weights [B, K], given the latents. Override this if `weights` draws random numbers."""
        return self.weights(latent_BZ, inputs, experts).weights_BK

    def expert_prior(self) -> Tensor | None:
        """Return the learned distribution of experts [K], if it does not depend on the latent; else None."""
        return None

    def loss_weights(self) -> LossWeights | None:
        """Return learned weights [K] of the losses of the experts' samples; such a gate splits the batch."""
        return None

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the gate's own optimiser and a load balance train."""
        return list(self.parameters())

    def anneal(self, factor: float) -> None:
        """Set the value that the gate's `schedule` scales, such as a temperature, to factor × its configured value.

        Raises:
            ConfigError: the gate has no such value.
        """
        raise ConfigError(
            f"model.gate.schedule: {type(self).__name__} has nothing that a schedule could scale. Take null"
        )


def no_autocast(like: Tensor) -> torch.autocast:
    """Return a context without autocast, for the device of a tensor of any shape.

    In bfloat16 the weights would not sum to 1.
    """
    return torch.autocast(like.device.type, enabled=False)


class NoGate(Gate):
    """A single expert with weight 1. Raises ConfigError for K > 1."""

    hard = True
    trainable = False

    def __init__(self, k: int) -> None:
        super().__init__()
        expert_counts.one(k)
        self.k = k

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return ones [B, 1]."""
        return latent_BZ.new_ones(len(latent_BZ), 1)


class UniformGate(Gate):
    """Every expert generates the same number of samples, independently of z: the gate of MGGAN and MADGAN.

    In training, expert k generates the k-th of K equal, consecutive parts of the batch. With `same_latents` all parts
    have the same latents (released code of MGGAN). In eval mode the assignment is random and stratified: the experts'
    counts differ by as little as possible. Each expert runs only on its own samples.

    Args:
        k: number of experts.
        same_latents: see above.
        separate: if true, in training the layers that experts share run on each expert's part alone, so that their
            batch norm does not mix experts (code of MAD-GAN and of the HMoG author); if false, on all parts together
            (MGGAN).
    """

    hard = True
    trainable = False
    splits_batch = True

    def __init__(
        self,
        k: int,
        same_latents: bool,
        separate: bool = False,  # older generator files lack this key; it has no effect on sampling
    ) -> None:
        super().__init__()
        self.k, self.separate = k, separate
        self.experts_per_latent = k if same_latents else 1

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return one-hot weights [B, K]."""
        return one_hot_like(self._slots(latent_BZ) // self._capacity(latent_BZ), self.k, latent_BZ)

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        """Return the output of each sample's expert, [B, …], and the one-hot weights.

        Raises:
            ValueError: the size of a training batch is not a multiple of K.
        """
        slot_B, capacity = self._slots(latent_BZ), self._capacity(latent_BZ)
        if self.training:
            outputs = experts(inputs.unflatten(0, (self.k, capacity))).flatten(0, 1)
        else:
            slots = inputs.new_zeros(self.k * capacity, *inputs.shape[1:])
            slots[slot_B] = inputs
            outputs = experts(slots.unflatten(0, (self.k, capacity))).flatten(0, 1)[slot_B]
        weights_BK = one_hot_like(slot_B // capacity, self.k, latent_BZ)
        return outputs, GateWeights(weights_BK, weights_BK)

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return 1/K for every expert, [B, K]."""
        return latent_BZ.new_full((len(latent_BZ), self.k), 1 / self.k)

    def _capacity(self, latent_BZ: Tensor) -> int:
        """Return the number of slots per expert, ⌈B / K⌉."""
        if self.training and len(latent_BZ) % self.k:
            raise ValueError(f"a training batch of {len(latent_BZ)} latents is not a multiple of {self.k} experts")
        return -(-len(latent_BZ) // self.k)

    def _slots(self, latent_BZ: Tensor) -> Tensor:
        """Return the slot of each sample, [B]; slot s belongs to expert s // capacity."""
        if self.training:
            return torch.arange(len(latent_BZ), device=latent_BZ.device)
        slots = torch.randperm(self.k * self._capacity(latent_BZ))  # on the CPU: the same for a seed on every device
        return slots[: len(latent_BZ)].to(latent_BZ.device)


class SoftmaxGate(Gate):
    """a = softmax(V z + v_0), the gate of MoG. It has K (Z + 1) parameters: weights Xavier normal, biases 0.

    Args:
        k: number of experts.
        latent_size: Z.
        dropout: see `ExpertDropout`.
        weight_dropout: see `drop_weights`.
    """

    hard = False

    def __init__(self, k: int, latent_size: int, dropout: float, weight_dropout: Probability = 0.0) -> None:
        super().__init__()
        self.k, self.weight_dropout = k, weight_dropout
        self.dropout = ExpertDropout(dropout)
        self.logits = nn.Linear(latent_size, k)
        nn.init.xavier_normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return the weights [B, K]."""
        probability = self.weight_dropout if self.training else 0.0
        return self.dropout(drop_weights(self.logits, latent_BZ, probability).softmax(dim=1))


class TreeGate(Gate):
    r"""A complete binary tree of soft splits, the gate of HMoG: K - 1 inner nodes and K leaves.

    Node m sends the share \sigma_m(z) = sigmoid(v_m z + v_m0) of its density to its left child, node 2m + 1, and the
    rest to its right child, node 2m + 2. The weight of a leaf is the product along its path. The gate has
    (K - 1)(Z + 1) parameters: v ~ N(0, 1/Z), biases 0.

    Args:
        k: number of experts.
        latent_size: Z.
        dropout: see `ExpertDropout`.
        weight_dropout: see `drop_weights`.

    Raises:
        ConfigError: K is not a power of two.
    """

    hard = False
    hierarchical = True

    def __init__(self, k: int, latent_size: int, dropout: float, weight_dropout: Probability = 0.0) -> None:
        super().__init__()
        expert_counts.power_of_two(k)
        self.k, self.weight_dropout = k, weight_dropout
        self.depth = k.bit_length() - 1
        self.dropout = ExpertDropout(dropout)
        self.splits = nn.Linear(latent_size, k - 1) if k > 1 else None
        if self.splits is not None:
            nn.init.normal_(self.splits.weight, std=1 / math.sqrt(latent_size))
            nn.init.zeros_(self.splits.bias)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return the weights of the leaves [B, K], from left to right."""
        return self.dropout(self.levels(latent_BZ)[-1])

    def levels(self, latent_BZ: Tensor) -> list[Tensor]:
        """Return the densities of the nodes level by level, [B, 1], [B, 2], …, [B, K]; each row sums to 1."""
        densities = [latent_BZ.new_ones(len(latent_BZ), 1)]
        if self.splits is None:
            return densities
        left = drop_weights(self.splits, latent_BZ, self.weight_dropout if self.training else 0.0).sigmoid()
        shares_BN2 = torch.stack((left, 1 - left), dim=2)  # of the density of each inner node
        for level in range(self.depth):
            to_children = shares_BN2[:, 2**level - 1 : 2 ** (level + 1) - 1]
            densities.append((densities[-1].unsqueeze(2) * to_children).flatten(1))
        return densities


def drop_weights(linear: nn.Linear, latent_BZ: Tensor, probability: float) -> Tensor:
    """Return linear(z), [B, …], after dropout of the weight matrix with one mask for the whole batch. The bias stays.

    The code of the HMoG author has this option for the gates and never uses it. The mixture weights still sum to 1.
    """
    if not probability:
        return linear(latent_BZ)
    # Synchronised ranks have the same random state, so they draw the same mask.
    kept = torch.rand_like(linear.weight) >= probability
    return nn.functional.linear(latent_BZ, linear.weight * kept / (1 - probability), linear.bias)


class ExpertDropout(nn.Module):
    """Dropout of experts: in training, set weights to 0 at random and rescale the others to sum to 1.

    Each sample has its own mask. If all remaining weights of a sample are 0, its weights stay as they are. Raises
    ConfigError unless 0 ≤ probability < 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ConfigError(f"model.gate.dropout={probability}: a probability. Take a number ≥ 0 and < 1")
        self.probability = probability

    def forward(self, weights_BK: Tensor) -> Tensor:
        """Return the rescaled weights [B, K]."""
        if not self.training or not self.probability:
            return weights_BK
        kept_BK = weights_BK * (
            uniform(*weights_BK.shape, device=weights_BK.device, dtype=weights_BK.dtype) >= self.probability
        )
        total_B1 = kept_BK.sum(dim=1, keepdim=True)
        smallest = torch.finfo(weights_BK.dtype).tiny
        return torch.where(total_B1 > smallest, kept_BK / total_B1.clamp_min(smallest), weights_BK)
