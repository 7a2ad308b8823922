"""Experts: what each of the K generators has of its own.

Expert k works on inputs k of [K, B, …], all K at once: no loop over K where one matrix product serves, and no weight
matrix per sample. A new kind is a class like these, and a YAML in conf/model/experts/. Sources of linear and constant
experts: Ahmetoglu & Alpaydin 2019 (thesis, eqs. linear, constant); of whole networks: Park et al. 2018, Ghosh et al.
2018.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Backbone
from mixgan_cli.models.layers import BatchNorm1d, Initialise, he, without_offset


def one_hot_like(choice_B: Tensor, k: int, like: Tensor) -> Tensor:
    """Return one-hot rows [B, K], of the other tensor's type and on its device."""
    return (choice_B.unsqueeze(1) == torch.arange(k, device=choice_B.device)).to(like)


class SharedLayers(NamedTuple):
    """What all experts share: layers before them (latents to their inputs), and after (their outputs to samples)."""

    stem: nn.Module
    trunk: nn.Module


class Experts(nn.Module):
    """What experts offer: their call, inputs [K, B, …] to outputs [K, B, …], and what the gates ask of it."""

    k: int
    feature_size: int
    """Of the features [K, B, F] a gate may look at."""
    min_batch = 1
    """How many samples an expert needs in a training batch."""

    def shared_layers(self, backbone: Backbone, latent_size: int) -> SharedLayers:
        """Return the layers around the experts: here none before, the backbone's trunk after."""
        return SharedLayers(nn.Identity(), backbone.trunk())

    def expand(self, inputs: Tensor) -> Tensor:
        """Give the same inputs [B, …] to every expert: a view [K, B, …]."""
        return inputs.expand(self.k, *inputs.shape)

    def mix(self, inputs: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_k a_k G_k, [B, …]. Where a formula is cheaper than all K outputs, a kind says it."""
        return self.mix_outputs(self(self.expand(inputs)), weights_BK)

    def mix_outputs(self, outputs_KB: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_k a_k o_k, [B, …], of outputs [K, B, …]."""
        return torch.einsum("bk,kb...->b...", weights_BK, outputs_KB)

    def forward_one(self, expert: int, inputs: Tensor) -> Tensor:
        """Return one expert's outputs [B, …]."""
        return self.mix(inputs, one_hot_like(torch.full((len(inputs),), expert), self.k, inputs))

    def features(self, inputs_KB: Tensor) -> Tensor:
        """Return the features [K, B, F] that a gate may look at: here the outputs."""
        return self.forward_with_features(inputs_KB)[1]

    def forward_with_features(self, inputs_KB: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [K, B, …] and features [K, B, F]."""
        outputs_KB = self(inputs_KB)
        return outputs_KB, outputs_KB


class LinearExperts(Experts):
    """G_k(z) = W_k z + w_k0, the leaves of MoG and HMoG. W ~ N(0, 1/Z), biases 0. Parameters: K H (Z + 1)."""

    def __init__(self, k: int, latent_size: int, hidden_size: int) -> None:
        super().__init__()
        self.k, self.feature_size = k, hidden_size
        self.weight_KZH = nn.Parameter(torch.randn(k, latent_size, hidden_size) / math.sqrt(latent_size))
        self.bias_KH = nn.Parameter(torch.zeros(k, hidden_size))

    def forward(self, inputs_KBZ: Tensor) -> Tensor:
        """Return the outputs [K, B, H]."""
        return torch.baddbmm(self.bias_KH.unsqueeze(1), inputs_KBZ, self.weight_KZH)

    def mix(self, inputs: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_k a_k (W_k z + w_k0), [B, H], as one product (a \otimes z) [W_1; …; W_K] + a w_0."""
        weighted = (weights_BK.unsqueeze(2) * inputs.unsqueeze(1)).flatten(1)
        return torch.addmm(weights_BK @ self.bias_KH, weighted, self.weight_KZH.flatten(0, 1))


class ConstantExperts(Experts):
    """G_k(z) = c_k, the ablation of MoG and HMoG: the mixture stays in the convex hull of the c_k ~ N(0, 1)."""

    def __init__(self, k: int, hidden_size: int) -> None:
        super().__init__()
        self.k, self.feature_size = k, hidden_size
        self.constant_KH = nn.Parameter(torch.randn(k, hidden_size))

    def forward(self, inputs_KBZ: Tensor) -> Tensor:
        """Return the outputs [K, B, H]."""
        return self.constant_KH.unsqueeze(1).expand(-1, inputs_KBZ.shape[1], -1)

    def mix(self, inputs: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_k a_k c_k, [B, H]."""
        return weights_BK @ self.constant_KH


class DenseExperts(Experts):
    """A dense layer with ReLU and, if wanted, batch norm: a DCGAN's first layer, one for each expert.

    Batch norm is per expert and unit, over the samples that expert makes.

    Args:
        k: number of experts.
        latent_size: Z.
        hidden_size: H.
        initialise: how the backbone's layers begin.
        init: backbone: as these; he (the HMoG author's MADGAN, MGAN, MEGAN).
        batch_norm: none; before the ReLU (MGGAN's released code); or after it (the HMoG author's MADGAN, MGAN, MEGAN).
        offset: whether batch norm learns an offset: MGGAN's text fixes it at zero in all layers, its code not in this.
    """

    def __init__(
        self,
        k: int,
        latent_size: int,
        hidden_size: int,
        initialise: Initialise,
        init: Literal["backbone", "he"],
        batch_norm: Literal["none", "before", "after"],
        offset: bool,
    ) -> None:
        super().__init__()
        self.k, self.feature_size = k, hidden_size
        self.weight_KZH = nn.Parameter(torch.empty(k, latent_size, hidden_size))
        self.bias_KH = nn.Parameter(torch.empty(k, hidden_size))
        (he if init == "he" else initialise)(self.weight_KZH, self.bias_KH, latent_size)
        units = BatchNorm1d(k * hidden_size)
        norm = [units if offset else without_offset(units)]
        self.units = nn.Sequential(
            *(norm if batch_norm == "before" else []), nn.ReLU(), *(norm if batch_norm == "after" else [])
        )
        self.min_batch = 1 if batch_norm == "none" else 2

    def forward(self, inputs_KBZ: Tensor) -> Tensor:
        """Return the outputs [K, B, H]."""
        dense_KBH = torch.baddbmm(self.bias_KH.unsqueeze(1), inputs_KBZ, self.weight_KZH)
        units = self.units(dense_KBH.transpose(0, 1).flatten(1))  # [B, K H]: each expert's units apart
        return units.unflatten(1, (self.k, -1)).transpose(0, 1)


class NetworkExperts(Experts):
    """Whole generators, or their last layers: each expert has all of the backbone's stages but the first `shared`.

    With none shared, the experts of MEGAN and of MAD-GAN without sharing; with all but two, MAD-GAN's "heads".

    Args:
        k: number of experts.
        latent_size: Z.
        backbone: offers the stages.
        shared_stages: how many stages, from z on, all experts share; negative counts from the end.

    Raises:
        ConfigError: the generator has fewer stages.
    """

    min_batch = 2

    def __init__(self, k: int, latent_size: int, backbone: Backbone, shared_stages: int) -> None:
        super().__init__()
        self.k = k
        count = len(backbone.stages(latent_size))
        if not -count <= shared_stages < count:
            raise ConfigError(f"model.experts.shared_stages={shared_stages}: the generator has {count} stages")
        self.shared_stages = shared_stages % count
        look = max(backbone.feature_stage, self.shared_stages + 1)
        stages = [backbone.stages(latent_size) for _ in range(k)]
        self.first = nn.ModuleList(nn.Sequential(*own[self.shared_stages : look]) for own in stages)
        self.rest = nn.ModuleList(nn.Sequential(*own[look:]) for own in stages)
        self.feature_size = backbone.stage_size(look)

    def shared_layers(self, backbone: Backbone, latent_size: int) -> SharedLayers:
        """Return the stages before the experts; there is nothing after."""
        return SharedLayers(nn.Sequential(*backbone.stages(latent_size)[: self.shared_stages]), nn.Identity())

    def forward(self, inputs_KB: Tensor) -> Tensor:
        """Return the samples [K, B, …]."""
        return _each(self.rest, _each(self.first, inputs_KB))

    def forward_one(self, expert: int, inputs: Tensor) -> Tensor:
        """Return one expert's samples [B, …]."""
        return self.rest[expert](self.first[expert](inputs))

    def features(self, inputs_KB: Tensor) -> Tensor:
        """Return the features [K, B, F]: what the stages up to the backbone's feature stage make."""
        return _each(self.first, inputs_KB).flatten(2)

    def forward_with_features(self, inputs_KB: Tensor) -> tuple[Tensor, Tensor]:
        """Return samples [K, B, …] and features [K, B, F]."""
        looked_at = _each(self.first, inputs_KB)
        return _each(self.rest, looked_at), looked_at.flatten(2)


def _each(networks: nn.ModuleList, inputs_KB: Tensor) -> Tensor:
    """Network k on inputs k. A loop: faster than grouped convolutions and than vmap (docs/performance.md)."""
    return torch.stack([network(inputs) for network, inputs in zip(networks, inputs_KB, strict=True)])
