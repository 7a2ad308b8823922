"""MEGAN's gating networks: they read z and the features of every expert, and select one expert (Park et al. 2018).

In the paper's figure each expert has its own projection W^i. In the released code one projection is shared and the
features are not normalised.
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
from mixgan_cli.models.layers import BatchNorm1d, initialise_scales
from mixgan_cli.runtime.random import uniform

EPSILON = 1e-20
"""Added inside the logarithms of the Gumbel noise so that they stay finite, as in the released code."""


class GumbelGate(Gate):
    r"""Straight-through Gumbel-softmax over the logits l = MLP([z; h_1; …; h_K]) with h_i = \phi(W^i f_i).

    f_i [F] are the features of expert i, h_i [Z] their projection. With Gumbel noise a_k = -log(-log u_k), the relaxed
    weights are y = softmax((l + a)/\tau). The forward pass uses onehot(argmax y), the backward pass the gradient of y.
    The noise is added before the division by the temperature \tau, so the selected expert is distributed as softmax(l)
    at any temperature. Noise is drawn in eval mode too, as in both code bases.

    Args:
        k: number of experts.
        latent_size: Z.
        feature_size: F.
        projection: per_expert: one W^i each (the paper's figure); shared: one W for all experts (released code).
        projection_norm: if true, apply batch norm to f_i before the projection.
        projection_relu: if true, \phi is a ReLU, else the identity.
        hidden_layers: number of hidden layers of the MLP, each with batch norm and ReLU. The released code has 2, of
            widths ⌊(K + 1) Z / 2⌋ and Z; the HMoG author's code has 0.
        he: if true, use He initialisation (HMoG author), else torch's default (released code).
        own: which parameters the gate's own optimiser and the load balance train: those of the MLP (released code), or
            all (HMoG author).
        norm_scale: initial scales of batch norm: one, or uniform, U(0, 1), torch's default before 1.2 (released code).
        temperature: the initial \tau; the component's `schedule` scales it during the run.
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
        norm_scale: Literal["one", "uniform"] = "one",  # weights of older generator files, which lack it, are loaded
    ) -> None:
        super().__init__()
        self.k, self.own = k, own
        self.base_temperature = float(temperature)
        self.norm = BatchNorm1d(k * feature_size) if projection_norm else None
        copies = k if projection == "per_expert" else 1
        bound = 1 / math.sqrt(feature_size)  # torch's default, so that a shared W equals nn.Linear
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
        initialise_scales(self, norm_scale)
        self.temperature: Tensor
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, latent_BZ: Tensor, features_KBF: Tensor) -> Tensor:
        """Return the logits [B, K] for latents [B, Z] and the features [K, B, F] of all experts."""
        if self.norm is not None:
            units = self.norm(features_KBF.transpose(0, 1).flatten(1))
            features_KBF = units.unflatten(1, (self.k, -1)).transpose(0, 1)
        projected_KBZ = self.activation(features_KBF @ self.weight_KFZ + self.bias_KZ.unsqueeze(1))
        return self.mlp(torch.cat((latent_BZ, projected_KBZ.transpose(0, 1).flatten(1)), dim=1))

    def weights(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> GateWeights:
        """Return one-hot weights [B, K] whose gradient is that of the relaxed weights [B, K]."""
        return self._select(self._logits(latent_BZ, inputs, experts))

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        """Return the outputs of the selected experts, [B, …], and the weights. Every expert runs on every latent."""
        outputs_KB, features_KBF = experts.forward_with_features(experts.expand(inputs))
        with no_autocast(latent_BZ):
            weights = self._select(self(latent_BZ, features_KBF.to(latent_BZ)))
        return experts.mix_outputs(outputs_KB, weights.weights_BK), weights

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return softmax(l), [B, K]: the distribution of the selected expert at any temperature."""
        return self._logits(latent_BZ, inputs, experts).softmax(dim=1)

    def own_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the MLP, or all of them, see `own`."""
        return list((self.mlp if self.own == "mlp" else self).parameters())

    def anneal(self, factor: float) -> None:
        """Set the temperature to this factor times its value in the configuration."""
        self.temperature.fill_(self.base_temperature * factor)

    def _logits(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        return self(latent_BZ, experts.features(experts.expand(inputs)).to(latent_BZ))

    def _select(self, logits_BK: Tensor) -> GateWeights:
        relaxed_BK = ((logits_BK + gumbel_noise(logits_BK, self.training)) / self.temperature).softmax(dim=1)
        selected_BK = torch.zeros_like(relaxed_BK).scatter(1, relaxed_BK.argmax(dim=1, keepdim=True), 1.0)
        straight_through = selected_BK + (relaxed_BK - relaxed_BK.detach())  # the value of the bracket is exactly 0
        return GateWeights(straight_through, relaxed_BK)


def gumbel_noise(like_BK: Tensor, training: bool) -> Tensor:
    """Draw -log(-log u), u ~ U(0, 1), with the shape [B, K], type and device of another tensor.

    In eval mode, a seed gives the same noise on every device.
    """
    device = like_BK.device if training else "cpu"
    uniform_BK = uniform(*like_BK.shape, dtype=like_BK.dtype, device=device).to(like_BK.device)
    return -(-(uniform_BK + EPSILON).log() + EPSILON).log()


def _initialise_he(gate: GumbelGate) -> None:
    nn.init.normal_(gate.weight_KFZ, std=math.sqrt(2 / gate.weight_KFZ.shape[1]))
    nn.init.zeros_(gate.bias_KZ)
    for layer in gate.mlp:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
