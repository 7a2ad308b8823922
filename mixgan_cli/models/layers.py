"""Initialisation and normalisation of layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from mixgan_cli.runtime import distributed

Initialise = Callable[[Tensor, Tensor, int], None]
"""Fills a weight and a bias in place; the last argument is the number of inputs."""


def normal_all(std: float) -> Initialise:
    """Weights and biases ~ N(0, std²), as the HMoG author's convolutional networks."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.normal_(weight, std=std)
        nn.init.normal_(bias, std=std)

    return fill


def zero_bias(std: float) -> Initialise:
    """Weights ~ N(0, std²), biases 0, as DCGAN and MGGAN."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.normal_(weight, std=std)
        nn.init.zeros_(bias)

    return fill


def truncated_normal(std: float) -> Initialise:
    """Weights ~ N(0, std²) cut at two standard deviations, biases 0, as MGGAN's discriminator."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(bias)

    return fill


def he(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Weights ~ N(0, 2/inputs), biases 0, of any shape (He et al. 2015), as the HMoG author's toy networks."""
    nn.init.normal_(weight, std=math.sqrt(2 / inputs))
    nn.init.zeros_(bias)


def uniform_fan_in(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Weights and biases ~ U(-1/√inputs, 1/√inputs), of any shape: torch's own, as MEGAN's released code."""
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)


def named(name: str, std: float) -> Initialise:
    """Return the initialisation a backbone's `init` names: hmog, radford, he or torch; `std` is of the first two."""
    return {"hmog": normal_all(std), "radford": zero_bias(std), "he": he, "torch": uniform_fan_in}[name]


def apply(network: nn.Sequential, initialise: Initialise) -> nn.Sequential:
    """Initialise every convolution and dense layer of a network, and return it."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            assert layer.bias is not None
            initialise(layer.weight, layer.bias, layer.weight[0].numel())
    return network


class _JointBatchNorm(_BatchNorm):
    """PyTorch's batch norm, which in training takes mean and variance over the samples of all ranks that act as one.

    torch.nn.SyncBatchNorm does the same, but on GPUs only, and it has no second derivative, which a gradient penalty
    needs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input [N, C, …]."""
        if not self.training or distributed.sync_size() == 1:
            return super().forward(input)
        values, others = input.float() if input.dtype == torch.bfloat16 else input, [0, *range(2, input.dim())]
        mean_C = distributed.mean(values.mean(dim=others))
        centred = values - _per_channel(mean_C, input)
        variance_C = distributed.mean(centred.square().mean(dim=others))
        n = distributed.sync_size() * input.numel() / input.shape[1]
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean_C.to(self.running_mean), self.momentum)
            self.running_var.lerp_((variance_C * (n / (n - 1))).to(self.running_var), self.momentum)
        normalised = centred * _per_channel((variance_C + self.eps).rsqrt(), input)
        if self.weight is not None:
            normalised = normalised * _per_channel(self.weight, input)
        if self.bias is not None:
            normalised = normalised + _per_channel(self.bias, input)
        return normalised.to(input.dtype)


class BatchNorm1d(_JointBatchNorm, nn.BatchNorm1d):
    """Of vectors [N, C]."""


class BatchNorm2d(_JointBatchNorm, nn.BatchNorm2d):
    """Of feature maps [N, C, H, W]."""


BatchNorm = TypeVar("BatchNorm", BatchNorm1d, BatchNorm2d)


def image_norm(name: Literal["none", "batch", "layer"], channels: int, side: int) -> list[nn.Module]:
    """Return the normalisation of feature maps [N, channels, side, side], in pixels: a list of one layer or none."""
    if name == "none":
        return []
    return [BatchNorm2d(channels) if name == "batch" else nn.LayerNorm([channels, side, side])]


def without_offset(norm: BatchNorm) -> BatchNorm:
    """Take the learned offset away against dying ReLUs (MGGAN, section 5.2); its learned scale stays."""
    norm.register_parameter("bias", None)
    return norm


def _per_channel(values_C: Tensor, like: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (like.dim() - 2))


@torch.no_grad()
def forward_frozen_bn(network: nn.Module, *arguments: Any) -> Any:
    """Return network(*arguments) in its current mode, without updating the running statistics of batch norm."""
    state = {name: value.clone() for name, value in network.named_buffers()}
    return functional_call(network, state, arguments)
