"""Normalisation by name; batch norm over all ranks, and with its offset fixed at zero."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mixgan_cli import ranks


class _JointBatchNorm(_BatchNorm):
    """PyTorch's batch norm, which in training takes mean and variance over the samples of all ranks that act as one.

    torch.nn.SyncBatchNorm does the same, but on GPUs only, and it has no second derivative, which a gradient penalty
    needs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input [N, C, …]."""
        if not self.training or ranks.joined() == 1:
            return super().forward(input)
        values, others = input.float() if input.dtype == torch.bfloat16 else input, [0, *range(2, input.dim())]
        mean_C = ranks.mean(values.mean(dim=others))
        centred = values - _per_channel(mean_C, input)
        variance_C = ranks.mean(centred.square().mean(dim=others))
        n = ranks.joined() * input.numel() / input.shape[1]
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
