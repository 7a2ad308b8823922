"""Batch norm with its offset fixed at zero, against dying ReLUs (MGGAN, section 5.2)."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

BatchNorm = TypeVar("BatchNorm", nn.BatchNorm1d, nn.BatchNorm2d)


def without_offset(norm: BatchNorm) -> BatchNorm:
    """Take the learned offset away, and return the batch norm with its learned scale."""
    norm.register_parameter("bias", None)
    return norm
