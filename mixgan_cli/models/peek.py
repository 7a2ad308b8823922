"""Calls of a network that leave no trace in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call


@torch.no_grad()
def peek(network: nn.Module, *arguments: Any) -> Any:
    """Return network(*arguments) in the mode it is in; the running statistics of its batch norms stay as they were."""
    state = {name: value.clone() for name, value in network.named_buffers()}
    return functional_call(network, state, arguments)
