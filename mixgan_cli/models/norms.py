"""Normalisation by name, and batch norm with its offset fixed at zero."""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import nn

BatchNorm = TypeVar("BatchNorm", nn.BatchNorm1d, nn.BatchNorm2d)


def image_norm(name: Literal["none", "batch", "layer"], channels: int, side: int) -> list[nn.Module]:
    """Return the normalisation of feature maps [N, channels, side, side], a list of one layer or none."""
    if name == "none":
        return []
    return [nn.BatchNorm2d(channels) if name == "batch" else nn.LayerNorm([channels, side, side])]


def without_offset(norm: BatchNorm) -> BatchNorm:
    """Take the learned offset away against dying ReLUs (MGGAN, section 5.2); its learned scale stays."""
    norm.register_parameter("bias", None)
    return norm
