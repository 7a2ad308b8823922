"""Weights in bfloat16, converted once per step instead of once per pass.

Autocast converts each weight in each pass, and each gradient back, with one kernel for each. Here, copies of the
weights take their place in the passes. One kernel updates all copies after a step, and one converts their gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mixgan_cli.models.experts import Experts
from mixgan_cli.models.gates import Gate
from mixgan_cli.models.layers import LayerNorm
from mixgan_cli.models.networks import Networks

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, LayerNorm)
"""Layers that compute in bfloat16 if their inputs have this type. Parametrised weights (spectral norm) stay."""


READ_BY_GATE = ("stem", "experts")
"""Parts of the generator that a gate may read."""


class Bf16Weights:
    """Copies of the weights of layers that autocast runs in bfloat16; the gate stays in float32.

    Gradients of the copies are added up in bfloat16 over the terms of a loss, then converted.
    """

    def __init__(self, networks: Networks) -> None:
        generator, discriminator = networks
        self._places: list[tuple[nn.Module, str]] = []
        gate = type(generator.gate)
        # The base class calls a gate's own `weights` in float32, and they may compute with the experts.
        read_by_gate = () if gate.weights is Gate.weights or gate.mix is not Gate.mix else READ_BY_GATE
        parts = {"stem": generator.stem, "experts": generator.experts, "trunk": generator.trunk, "": discriminator}
        for part in (network for name, network in parts.items() if name not in read_by_gate):
            for module in part.modules():
                if isinstance(module, LAYERS):
                    self._places += [
                        (module, name) for name in ("weight", "bias") if module._parameters.get(name) is not None
                    ]
                elif isinstance(module, Experts):
                    self._places += [(module, name) for name in module.in_products]
        self._copies: dict[Tensor, nn.Parameter] = {}
        for module, name in self._places:
            weight = module._parameters[name]
            assert weight is not None
            self._copies[weight] = nn.Parameter(weight.detach().to(torch.bfloat16))

    @torch.no_grad()
    def refresh(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Copy the weights, of any shape, again: those among these parameters, or all."""
        chosen: list[Tensor] = [weight for weight in parameters or self._copies if weight in self._copies]
        if chosen:
            torch._foreach_copy_(self.copies_of(chosen), chosen)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block, the layers have the copies."""
        weights = [module._parameters[name] for module, name in self._places]
        try:
            for (module, name), weight in zip(self._places, weights, strict=True):
                assert weight is not None
                copy = self._copies[weight]
                copy.requires_grad_(weight.requires_grad)
                module._parameters[name] = copy
            yield
        finally:
            for (module, name), weight in zip(self._places, weights, strict=True):
                module._parameters[name] = weight

    def copies_of(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Return the copies of these parameters of any shape, in order, without those that have none."""
        return [self._copies[parameter] for parameter in parameters if parameter in self._copies]

    @torch.no_grad()
    def move_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of the copies to those of these parameters of any shape, and free them."""
        pairs = [
            (parameter, gradient)
            for parameter in parameters
            if (copy := self._copies.get(parameter)) is not None and (gradient := copy.grad) is not None
        ]
        if not pairs:
            return
        converted = [torch.empty_like(parameter) for parameter, _ in pairs]
        torch._foreach_copy_(converted, [gradient for _, gradient in pairs])
        sums = [(parameter.grad, value) for (parameter, _), value in zip(pairs, converted, strict=True)]
        if both := [(total, value) for total, value in sums if total is not None]:
            torch._foreach_add_([total for total, _ in both], [value for _, value in both])
        for (parameter, _), (total, value) in zip(pairs, sums, strict=True):
            parameter.grad = value if total is None else total
            self._copies[parameter].grad = None
