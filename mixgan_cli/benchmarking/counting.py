"""Counts what an iteration computes and moves: FLOP of products and convolutions, bytes of every operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Floor = Callable[[torch.dtype, float, float], float]


class Counted(TorchDispatchMode):
    """Counts what is done inside, gradients' and optimisers' part too.

    An operation reads each tensor it is given and writes each it makes, once; a view does neither. Fused kernels move
    less than that, kernels that need room to work move more.

    Args:
        floor: maps type, FLOP and bytes of an operation to its least seconds.
    """

    def __init__(self, floor: Floor) -> None:
        super().__init__()
        self.floor = floor
        self.flops: dict[torch.dtype, float] = defaultdict(float)
        """By the type of the numbers."""
        self.bytes = 0.0
        self.operations = 0
        """Views apart: on a GPU about as many kernels."""
        self.seconds = 0.0
        """The least that all operations take, one after the other."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it, and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given, made = _tensors((args, kwargs)), _tensors(out)
        if func._schema.is_mutable:
            written = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
            by_name = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
            made = _tensors([by_name.get(name) for name in written])
        else:
            there = {tensor.untyped_storage().data_ptr() for tensor in given}
            if made and all(tensor.untyped_storage().data_ptr() in there for tensor in made):
                return out  # a view
        moved = sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in [*given, *made])
        count = flop_registry.get(func._overloadpacket)
        flops = float(count(*args, **kwargs, out_val=out)) if count else 0.0
        dtype = given[0].dtype if given else torch.float32
        if flops:
            self.flops[dtype] += flops
        self.bytes += moved
        self.operations += 1
        self.seconds += self.floor(dtype, flops, moved)
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
