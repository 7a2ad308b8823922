"""What is watched while a run trains, beside its losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixgan_cli.models.generator import Generator
from mixgan_cli.models.peek import peek


@torch.no_grad()
def active_neurons(generator: Generator, samples: int = 128, share: int = 16, least: float = 0.1) -> float:
    """Return the share of the generator's ReLU units that are active, in [0, 1].

    A unit is active if it is positive on at least a tenth of the batch (Hoang et al. 2017, section 5.2, where a share
    that falls from above 90 % announces collapse). Units of a convolution are counted at each pixel, the gate's not.

    Args:
        generator: in the mode in which it trains.
        samples: of the batch.
        share: or, where experts share out the batch, of each, so that the figure does not depend on K.
        least: the tenth.
    """
    active: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        active.append(((output > 0).float().mean(dim=0) >= least).flatten())

    parts = nn.ModuleList([generator.stem, generator.experts, generator.trunk])
    hooks = [module.register_forward_hook(look) for module in parts.modules() if isinstance(module, nn.ReLU)]
    try:
        peek(generator, generator.latents(share * generator.k if generator.gate.partitions else samples))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(active).float().mean().item() if active else 1.0
