"""Optimisers: fused, capturable in a CUDA graph, and resumed into any memory format."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from mixgan_cli.config.schema import Adam

# Without a CUDA graph a capturable optimiser works as well, but torch warns.
warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")

Optimizers = Mapping[str, torch.optim.Optimizer]


def adam(parameters: object, settings: Adam) -> torch.optim.Adam:
    """Return Adam over these parameters; its weight decay is an L2 term in the gradient."""
    return torch.optim.Adam(
        parameters,  # type: ignore[arg-type]
        lr=settings.lr,
        betas=settings.betas,
        amsgrad=settings.amsgrad,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over memory, and it heeds `found_inf`
        capturable=True,  # it may be recorded as part of a CUDA graph
    )


def resume(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimiser's `state_dict()`, each tensor into its parameter's memory format, which may be another now.

    A fused Adam walks through both as they lie in memory; torch alone keeps the format in which they were saved.
    """
    optimizer.load_state_dict(saved)
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter).copy_(value)
