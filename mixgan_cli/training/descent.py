"""A step down a loss: over all ranks, and not where the loss or a gradient is not finite."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixgan_cli import ranks
from mixgan_cli.config import Adam

# of all that is not recorded: it costs a fused Adam nothing
warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")

Optimizers = Mapping[str, torch.optim.Optimizer]


class Descent(NamedTuple):
    """What a step down came to: scalars on the device."""

    loss: Tensor
    """The sum of its terms, before the step."""
    skipped: Tensor
    """1 where the step was left out, else 0."""


def descend(terms: Iterable[Tensor], optimizers: Optimizers) -> Descent:
    """Take a step down the sum of the terms, scalars, with each optimiser; only what they move gets a gradient.

    Terms are differentiated one by one as they come: where they are computed as they are asked for, memory holds the
    activations of one alone. With several ranks the gradient is the mean of theirs. A step whose loss or gradient is
    not finite is left out, the optimisers' own state untouched: they look at `found_inf` on the device, so that nobody
    waits for it.
    """
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    moved = [
        parameter
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    values = []
    for term in terms:
        term.backward(inputs=moved)
        values.append(term.detach())
    gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
    loss = torch.stack(values).sum()
    ranks.average_([*gradients, loss])
    largest = torch.nn.utils.get_total_norm(gradients, norm_type=math.inf) if gradients else loss
    skipped = 1 - (largest.isfinite() & loss.isfinite()).to(torch.float32)
    for optimizer in optimizers.values():
        optimizer.found_inf = skipped  # type: ignore[attr-defined]
        optimizer.step()
    return Descent(loss, skipped)


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
