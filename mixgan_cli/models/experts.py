"""Experts: the layers that the K generators do not share.

Expert k maps the inputs k of [K, B, …] to its outputs. All K run at once: dense experts are one batched matrix product,
without a loop over K and without a weight matrix per sample. A new kind of experts is a subclass of `Experts` and a
YAML file in conf/model/experts/.

Sources: linear and constant experts: Ahmetoglu 2019 (thesis, eqs. linear and constant). Whole networks: Park
et al. 2018, Ghosh et al. 2018.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Backbone
from mixgan_cli.models.layers import BatchNorm1d, Initialise, he, initialise_scales, scaled_normal, without_offset
from mixgan_cli.models.one_pass import run_in_one_pass, runs_in_one_pass


def one_hot_like(choice_B: Tensor, k: int, like: Tensor) -> Tensor:
    """Return one-hot rows [B, K] with the type and device of another tensor of any shape."""
    return (choice_B.unsqueeze(1) == torch.arange(k, device=choice_B.device)).to(like)


class SharedLayers(NamedTuple):
    """The layers that all experts share: the stem maps latents to their inputs, the trunk their outputs to samples."""

    stem: nn.Module
    trunk: nn.Module


class Experts(nn.Module):
    """The base class of experts. `forward(inputs_KB)` maps inputs [K, B, …] to outputs [K, B, …]."""

    k: int
    """The number of experts."""
    feature_size: int
    """F, the size of the features [K, B, F] that a gate can read."""
    min_batch = 1
    """Smallest number of samples per expert in a training batch, for the experts' batch norm."""
    in_products: tuple[str, ...] = ()
    """Names of own parameters that enter only matrix products, in which they may be in bfloat16."""

    def shared_layers(self, backbone: Backbone, latent_size: int) -> SharedLayers:
        """Return the layers around the experts: no stem, and the trunk of the backbone."""
        return SharedLayers(nn.Identity(), backbone.trunk())

    def expand(self, inputs: Tensor) -> Tensor:
        """Expand inputs [B, …] to a view [K, B, …], the same for every expert."""
        return inputs.expand(self.k, *inputs.shape)

    def mix(self, inputs: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return the mixture \sum_k a_k G_k, [B, …]. Override this if it is cheaper than computing all K outputs."""
        return self.mix_outputs(self(self.expand(inputs)), weights_BK)

    def mix_outputs(self, outputs_KB: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return the weighted sum \sum_k a_k o_k, [B, …], of outputs o [K, B, …]."""
        # not einsum: its backward is an outer product, for which PyTorch 2.14 needs a C compiler on a GPU
        weights_KB = weights_BK.t().reshape(*outputs_KB.shape[:2], *[1] * (outputs_KB.dim() - 2))
        return (weights_KB * outputs_KB).sum(dim=0)

    def forward_one(self, expert: int, inputs: Tensor) -> Tensor:
        """Return the outputs of one expert, [B, …]."""
        return self.mix(inputs, one_hot_like(torch.full((len(inputs),), expert), self.k, inputs))

    def features(self, inputs_KB: Tensor) -> Tensor:
        """Return the features [K, B, F] that a gate can read; by default the outputs."""
        return self.forward_with_features(inputs_KB)[1]

    def forward_with_features(self, inputs_KB: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [K, B, …] and features [K, B, F]."""
        outputs_KB = self(inputs_KB)
        return outputs_KB, outputs_KB


class LinearExperts(Experts):
    """G_k(z) = W_k z + w_k0, the leaves of MoG and HMoG: K H (Z + 1) parameters.

    Args:
        k: number of experts.
        latent_size: Z.
        hidden_size: H.
        initialise: the initialisation of the backbone's layers.
        init: fan_in: W ~ N(0, 1/Z), biases 0 (MoG, HMoG); backbone: use `initialise`.
    """

    in_products = ("weight_KZH", "bias_KH")

    def __init__(
        self,
        k: int,
        latent_size: int,
        hidden_size: int,
        initialise: Initialise = scaled_normal,
        init: Literal["fan_in", "backbone"] = "fan_in",  # weights of older generator files, which lack it, are loaded
    ) -> None:
        super().__init__()
        self.k, self.feature_size = k, hidden_size
        self.weight_KZH = nn.Parameter(torch.randn(k, latent_size, hidden_size) / math.sqrt(latent_size))
        self.bias_KH = nn.Parameter(torch.zeros(k, hidden_size))
        if init == "backbone":
            initialise(self.weight_KZH, self.bias_KH, latent_size)

    def forward(self, inputs_KBZ: Tensor) -> Tensor:
        """Return the outputs [K, B, H]."""
        return torch.baddbmm(self.bias_KH.unsqueeze(1), inputs_KBZ, self.weight_KZH)

    def mix(self, inputs: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_k a_k (W_k z + w_k0), [B, H], as one product (a \otimes z) [W_1; …; W_K] + a w_0."""
        weighted = (weights_BK.unsqueeze(2) * inputs.unsqueeze(1)).flatten(1)
        return torch.addmm(weights_BK @ self.bias_KH, weighted, self.weight_KZH.flatten(0, 1))


class BasisExperts(Experts):
    r"""G_k(z) = B_k ⊙ (A_k z): K first layers of R3GAN (Huang et al. 2024, released code), K C (Z + P) parameters.

    Each of C channels is a learned map of P positions, scaled by a linear function of z: a linear leaf whose rows have
    rank 1 in each channel. B ~ N(0, 1) and A ~ N(0, 1/Z), so outputs have variance 1 at first; with soft weights a it
    is \sum_k a_k^2, and nothing after it restores it. K = 1 without a gate is R3GAN's generator.

    Args:
        k: number of experts.
        latent_size: Z.
        hidden_size: H = C P.
        backbone: gives the shape of the hidden vector, (C, height, width); of other shapes each unit is a channel.
    """

    def __init__(self, k: int, latent_size: int, hidden_size: int, backbone: Backbone) -> None:
        super().__init__()
        self.k, self.feature_size = k, hidden_size
        channels = getattr(backbone, "hidden_shape", (hidden_size,))[0]
        self.weight_KZC = nn.Parameter(torch.randn(k, latent_size, channels) / math.sqrt(latent_size))
        self.basis_KCP = nn.Parameter(torch.randn(k, channels, hidden_size // channels))

    def forward(self, inputs_KBZ: Tensor) -> Tensor:
        """Return the outputs [K, B, H]."""
        scale_KBC = torch.matmul(inputs_KBZ, self.weight_KZC)
        return (scale_KBC.unsqueeze(3) * self.basis_KCP.unsqueeze(1)).flatten(2)

    def mix(self, inputs: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return \sum_k a_k B_k ⊙ (A_k z), [B, H], as one product over experts for each channel."""
        k, channels, positions = self.basis_KCP.shape
        if k == 1 or positions == 1:  # products over one number, see `mix_outputs`
            return super().mix(inputs, weights_BK)
        scale_BKC = (inputs @ self.weight_KZC.transpose(0, 1).flatten(1)).unflatten(1, (k, channels))
        scale_CBK = (scale_BKC * weights_BK.unsqueeze(2)).permute(2, 0, 1)
        return torch.bmm(scale_CBK, self.basis_KCP.transpose(0, 1)).transpose(0, 1).flatten(1)


class ConstantExperts(Experts):
    """G_k(z) = c_k with c_k ~ N(0, 1), an ablation of MoG and HMoG. Mixtures lie in the convex hull of the c_k."""

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
    """One dense layer with ReLU and optional batch norm per expert: the first layer of a DCGAN.

    Batch norm has separate statistics for each expert and unit, over the samples of that expert.

    Args:
        k: number of experts.
        latent_size: Z.
        hidden_size: H.
        initialise: the initialisation of the backbone's layers.
        init: backbone: use `initialise`; he: He initialisation (MADGAN, MGAN and MEGAN of the HMoG author).
        batch_norm: none; before the ReLU (MGGAN's released code); after it (MADGAN, MGAN and MEGAN of the HMoG author).
        offset: if true, batch norm learns an offset. MGGAN's text fixes it at zero in all layers; its released code
            does not in this layer.
        norm_scale: initial scales of batch norm: one, or uniform, U(0, 1), torch's default before 1.2 (HMoG author).
    """

    in_products = ("weight_KZH", "bias_KH")

    def __init__(
        self,
        k: int,
        latent_size: int,
        hidden_size: int,
        initialise: Initialise,
        init: Literal["backbone", "he"],
        batch_norm: Literal["none", "before", "after"],
        offset: bool,
        norm_scale: Literal["one", "uniform"] = "one",  # weights of older generator files, which lack it, are loaded
    ) -> None:
        super().__init__()
        self.k, self.feature_size = k, hidden_size
        self.weight_KZH = nn.Parameter(torch.empty(k, latent_size, hidden_size))
        self.bias_KH = nn.Parameter(torch.empty(k, hidden_size))
        (he if init == "he" else initialise)(self.weight_KZH, self.bias_KH, latent_size)
        units = BatchNorm1d(k * hidden_size)
        norm = [initialise_scales(units if offset else without_offset(units), norm_scale)]
        self.units = nn.Sequential(
            *(norm if batch_norm == "before" else []), nn.ReLU(), *(norm if batch_norm == "after" else [])
        )
        self.min_batch = 1 if batch_norm == "none" else 2

    def forward(self, inputs_KBZ: Tensor) -> Tensor:
        """Return the outputs [K, B, H]."""
        dense_KBH = torch.baddbmm(self.bias_KH.unsqueeze(1), inputs_KBZ, self.weight_KZH)
        units = self.units(dense_KBH.transpose(0, 1).flatten(1))  # [B, K H]: one column per expert and unit
        return units.unflatten(1, (self.k, -1)).transpose(0, 1)


class NetworkExperts(Experts):
    """Whole generators, or their last layers: each expert has its own copy of all stages except the shared ones.

    Without shared stages these are the experts of MEGAN, and of MAD-GAN without sharing. With all but two stages shared
    they are the "heads" of MAD-GAN.

    Args:
        k: number of experts.
        latent_size: Z.
        backbone: provides the stages.
        shared_stages: number of stages, counted from z, that all experts share; a negative number counts from the end.

    Raises:
        ConfigError: the generator has too few stages.
    """

    min_batch = 2

    def __init__(self, k: int, latent_size: int, backbone: Backbone, shared_stages: int) -> None:
        super().__init__()
        self.k = k
        count = len(backbone.stages(latent_size))
        if not -count <= shared_stages < count:
            raise ConfigError(
                f"model.experts.shared_stages={shared_stages}: the generator has {count} stages. "
                f"Take a number from {-count} to {count - 1}"
            )
        self.shared_stages = shared_stages % count
        features_after = max(backbone.feature_stage, self.shared_stages + 1)
        stages = [backbone.stages(latent_size) for _ in range(k)]
        self.first = nn.ModuleList(nn.Sequential(*own[self.shared_stages : features_after]) for own in stages)
        self.rest = nn.ModuleList(nn.Sequential(*own[features_after:]) for own in stages)
        self.feature_size = backbone.stage_size(features_after)

    def shared_layers(self, backbone: Backbone, latent_size: int) -> SharedLayers:
        """Return the shared stages as the stem; the trunk is empty."""
        return SharedLayers(nn.Sequential(*backbone.stages(latent_size)[: self.shared_stages]), nn.Identity())

    def forward(self, inputs_KB: Tensor) -> Tensor:
        """Return the samples [K, B, …]."""
        return _run_each(self.rest, _run_each(self.first, inputs_KB))

    def forward_one(self, expert: int, inputs: Tensor) -> Tensor:
        """Return the samples of one expert, [B, …]."""
        return self.rest[expert](self.first[expert](inputs))

    def features(self, inputs_KB: Tensor) -> Tensor:
        """Return the features [K, B, F]: the flattened output of the backbone's feature stage."""
        return _run_each(self.first, inputs_KB).flatten(2)

    def forward_with_features(self, inputs_KB: Tensor) -> tuple[Tensor, Tensor]:
        """Return samples [K, B, …] and features [K, B, F]."""
        intermediate_KB = _run_each(self.first, inputs_KB)
        return _run_each(self.rest, intermediate_KB), intermediate_KB.flatten(2)


def _run_each(networks: nn.ModuleList, inputs_KB: Tensor) -> Tensor:
    """Run network k on inputs k. On a CPU the loop is faster and takes less memory, see docs/performance.md."""
    if inputs_KB.is_cuda and runs_in_one_pass(networks[0]):
        return run_in_one_pass(list(networks), inputs_KB)
    return torch.stack([network(inputs) for network, inputs in zip(networks, inputs_KB, strict=True)])
