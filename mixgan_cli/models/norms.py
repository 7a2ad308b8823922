"""Batch norm with a learned scale, and an offset that is learned or fixed at zero (MGGAN, section 5.2)."""

from __future__ import annotations

from torch import nn


class BatchNorm1d(nn.BatchNorm1d):
    """Of units [B, H]."""

    def __init__(self, features: int, offset: bool) -> None:
        super().__init__(features)
        if not offset:
            self.bias = None  # type: ignore[assignment]


class BatchNorm2d(nn.BatchNorm2d):
    """Of maps [B, C, H, W]."""

    def __init__(self, features: int, offset: bool) -> None:
        super().__init__(features)
        if not offset:
            self.bias = None  # type: ignore[assignment]
