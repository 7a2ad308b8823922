"""K equal networks in one pass: their layers side by side, with K times fewer kernels than one after the other.

Convolutions have K times the groups, dense layers are one batched product, batch norm has K times the channels. The
networks stay K modules with weights of their own. Each pass joins the weights of a layer, and their gradients are parts
of those of the joined weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import conv_transpose2d

from mixgan_cli.models.layers import BatchNorm1d, BatchNorm2d, count_pass

ELEMENTWISE = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Tanh)
NORMS = (BatchNorm1d, BatchNorm2d)
SUPPORTED = (nn.Sequential, nn.Unflatten, nn.ConvTranspose2d, nn.Linear, *NORMS, *ELEMENTWISE)


def runs_in_one_pass(network: nn.Module) -> bool:
    """Return whether `run_in_one_pass` knows all layers of a network. It knows none that draws random numbers."""
    return all(type(layer) in SUPPORTED and not layer._forward_hooks for layer in network.modules())


def run_in_one_pass(networks: Sequence[nn.Module], inputs_KB: Tensor) -> Tensor:
    """Run network k on inputs k of [K, B, …], for equal networks that `runs_in_one_pass`. Return [K, B, …], a view."""
    return _run(networks, inputs_KB.transpose(0, 1)).transpose(0, 1)


def _run(layers: Sequence[nn.Module], inputs_BK: Tensor) -> Tensor:
    """Return the outputs [B, K, …] of K equal layers, or networks, for inputs [B, K, …]."""
    first = layers[0]
    if isinstance(first, nn.Sequential):
        for each in zip(*(cast(nn.Sequential, layer) for layer in layers), strict=True):
            inputs_BK = _run(each, inputs_BK)
        return inputs_BK
    if isinstance(first, ELEMENTWISE):
        return cast(Tensor, first(inputs_BK))
    if isinstance(first, nn.Unflatten):
        return inputs_BK.unflatten(cast(int, first.dim) + 1, cast(Any, first.unflattened_size))
    if isinstance(first, nn.Linear):
        return _linear(layers, inputs_BK)
    join = _batch_norm if isinstance(first, NORMS) else _conv_transpose
    return join(layers, inputs_BK).unflatten(1, (len(layers), -1))


def _linear(layers: Sequence[nn.Module], inputs_BK: Tensor) -> Tensor:
    inputs_KB, weight_KZH = inputs_BK.transpose(0, 1), _stacked(layers, "weight").transpose(1, 2)
    if layers[0].bias is None:
        return torch.bmm(inputs_KB, weight_KZH).transpose(0, 1)
    return torch.baddbmm(_stacked(layers, "bias").unsqueeze(1), inputs_KB, weight_KZH).transpose(0, 1)


def _conv_transpose(layers: Sequence[nn.Module], inputs_BK: Tensor) -> Tensor:
    first = cast(nn.ConvTranspose2d, layers[0])
    bias = None if first.bias is None else _stacked(layers, "bias").flatten()
    if first.groups == 1 and inputs_BK.stride(1) == 0:  # the same for every network: all read it without a copy
        inputs, groups = inputs_BK[:, 0], 1
        weight = torch.cat([cast(Tensor, layer.weight) for layer in layers], dim=1)
    else:
        inputs, groups = inputs_BK.flatten(1, 2), len(layers) * first.groups
        weight = torch.cat([cast(Tensor, layer.weight) for layer in layers])
    settings: Any = (first.stride, first.padding, first.output_padding, groups, first.dilation)
    return conv_transpose2d(inputs, weight, bias, *settings)


def _batch_norm(layers: Sequence[nn.Module], inputs_BK: Tensor) -> Tensor:
    """Run the first layer with the weights and statistics of all, and give each its new statistics."""
    first = cast(BatchNorm2d, layers[0])
    weights, averages = (
        _joined(layers, [name for name in names if getattr(first, name) is not None])
        for names in (("weight", "bias"), ("running_mean", "running_var"))
    )
    outputs = cast(Tensor, functional_call(first, weights | averages, (inputs_BK.flatten(1, 2),)))
    if first.training and first.track_running_stats:
        kept = [cast(Tensor, getattr(layer, name)) for name in averages for layer in layers]
        with torch.no_grad():
            torch._foreach_copy_(kept, [part for joined in averages.values() for part in joined.chunk(len(layers))])
            for layer in layers[1:]:
                count_pass(cast(Tensor, layer.num_batches_tracked))
    return outputs


def _joined(layers: Sequence[nn.Module], names: Sequence[str]) -> dict[str, Tensor]:
    """Return parameters or buffers [C] of K layers as [K C], by their names, with one kernel for all."""
    if not names:
        return {}
    parts = torch.stack([cast(Tensor, getattr(layer, name)) for name in names for layer in layers])
    return dict(zip(names, parts.view(len(names), -1), strict=True))


def _stacked(layers: Sequence[nn.Module], name: str) -> Tensor:
    return torch.stack([cast(Tensor, getattr(layer, name)) for layer in layers])
