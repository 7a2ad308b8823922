"""MEGAN's gating networks: they look at z and at what each expert made of it, and choose one (Park et al. 2018).

The paper's figure gives each expert a projection of its own, W^i; the released code shares one and normalises nothing.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from mixgan_cli.models.experts import Experts
from mixgan_cli.models.gates import Gate, GateWeights, no_autocast
from mixgan_cli.models.layers import BatchNorm1d
from mixgan_cli.runtime.random import uniform

TINY = 1e-20
"""Keeps the logarithms finite, as in the released code."""


class GumbelGate(Gate):
    r"""One-hot weights by straight-through Gumbel-softmax on logits l = MLP([z; h_1; …; h_K]), h_i = \phi(W^i f_i).

    f_i [F] are the expert's features, h_i [Z]. Noise a_k = -log(-log u_k) is added before the temperature divides, so
    the choice is distributed as softmax(l) at any temperature \tau; y = softmax((l + a)/\tau). Forward gives
    onehot(argmax y), backward the gradient of y. The noise is drawn in eval mode too, as both code bases do.

    Args:
        k: number of experts.
        latent_size: Z.
        feature_size: F.
        projection: per_expert: W^i (the paper's figure); shared: one W for all (released code).
        projection_norm: whether f_i passes batch norm first.
        projection_relu: whether \phi is ReLU or nothing.
        hidden_layers: of the MLP, each with batch norm and ReLU; 2 of widths ⌊(K + 1) Z / 2⌋ and Z in the released
            code, 0 in the HMoG author's.
        he: He initialisation (HMoG's author) instead of torch's (released code).
        own: what the gate's own optimiser and the load balance move: the mlp (released code), or all (HMoG's author).
        temperature: \tau, which the component's `schedule` scales over the run.
    """

    hard = True

    def __init__(
        self,
        k: int,
        latent_size: int,
        feature_size: int,
        projection: Literal["per_expert", "shared"],
        projection_norm: bool,
        projection_relu: bool,
        hidden_layers: Literal[0, 1, 2],
        he: bool,
        own: Literal["mlp", "all"],
        temperature: PositiveFloat,
    ) -> None:
        super().__init__()
        self.k, self.own = k, own
        self.base_temperature = float(temperature)
        self.norm = BatchNorm1d(k * feature_size) if projection_norm else None
        copies = k if projection == "per_expert" else 1
        bound = 1 / math.sqrt(feature_size)  # torch's own, so that one W equals nn.Linear
        self.weight_KFZ = nn.Parameter(torch.empty(copies, feature_size, latent_size).uniform_(-bound, bound))
        self.bias_KZ = nn.Parameter(torch.empty(copies, latent_size).uniform_(-bound, bound))
        self.activation = nn.ReLU() if projection_relu else nn.Identity()
        inputs = (k + 1) * latent_size
        widths = [inputs, *(inputs // 2, latent_size)[2 - hidden_layers :], k]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), BatchNorm1d(after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-2], k))
        self.min_batch = 2 if layers or projection_norm else 1
        if he:
            _initialise_he(self)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, latent_BZ: Tensor, features_KBF: Tensor) -> Tensor:
        """Return the logits [B, K] for latents [B, Z] and every expert's features [K, B, F]."""
        if self.norm is not None:
            units = self.norm(features_KBF.transpose(0, 1).flatten(1))
            features_KBF = units.unflatten(1, (self.k, -1)).transpose(0, 1)
        projected_KBZ = self.activation(features_KBF @ self.weight_KFZ + self.bias_KZ.unsqueeze(1))
        return self.mlp(torch.cat((latent_BZ, projected_KBZ.transpose(0, 1).flatten(1)), dim=1))

    def weights(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> GateWeights:
        """Return one-hot weights with the gradient of the relaxed ones."""
        return self._choose(self._logits(latent_BZ, inputs, experts))

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        """Return the chosen experts' outputs [B, …] and the weights; every expert works on every latent."""
        outputs_KB, features_KBF = experts.forward_with_features(experts.expand(inputs))
        with no_autocast(latent_BZ):
            weights = self._choose(self(latent_BZ, features_KBF.to(latent_BZ)))
        return experts.mix_outputs(outputs_KB, weights.weights_BK), weights

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return softmax(l), [B, K]: with Gumbel noise, the argmax is so distributed at any temperature."""
        return self._logits(latent_BZ, inputs, experts).softmax(dim=1)

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the gate's own optimiser and the load balance move."""
        return list((self.mlp if self.own == "mlp" else self).parameters())

    def anneal(self, factor: float) -> None:
        """Set the temperature to this factor times its value in the configuration."""
        self.temperature.fill_(self.base_temperature * factor)

    def _logits(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        return self(latent_BZ, experts.features(experts.expand(inputs)).to(latent_BZ))

    def _choose(self, logits_BK: Tensor) -> GateWeights:
        device = logits_BK.device if self.training else "cpu"  # to sample, a seed means the same on every device
        uniform_BK = uniform(*logits_BK.shape, dtype=logits_BK.dtype, device=device).to(logits_BK.device)
        gumbel_BK = -(-(uniform_BK + TINY).log() + TINY).log()
        relaxed_BK = ((logits_BK + gumbel_BK) / self.temperature).softmax(dim=1)
        chosen_BK = torch.zeros_like(relaxed_BK).scatter(1, relaxed_BK.argmax(dim=1, keepdim=True), 1.0)
        straight_through = chosen_BK + (relaxed_BK - relaxed_BK.detach())  # the bracket is exactly 0 in value
        return GateWeights(straight_through, relaxed_BK)


def _initialise_he(gate: GumbelGate) -> None:
    nn.init.normal_(gate.weight_KFZ, std=math.sqrt(2 / gate.weight_KFZ.shape[1]))
    nn.init.zeros_(gate.bias_KZ)
    for layer in gate.mlp:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
