"""What is watched while a run trains, beside its losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mixgan_cli.models.generator import Generator
from mixgan_cli.models.peek import peek


@torch.no_grad()
def observe(generator: Generator, samples: int = 128, share: int = 16, least: float = 0.1) -> dict[str, Any]:
    """Return `active_neurons`, the share of the generator's ReLU units that are active, and `gate_usage` if it learns.

    A unit is active if it is positive on at least a tenth of the batch (Hoang et al. 2017, section 5.2, where a share
    that falls from above 90 % announces collapse). Units of a convolution are counted at each pixel, the gate's not.
    The usage is each expert's mean weight [K], where the gate learns.

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
        latent_BZ = generator.latents(share * generator.k if generator.gate.partitions else samples)
        with torch.compiler.set_stance("force_eager"):  # what is compiled calls no hooks
            fakes = peek(generator, latent_BZ)
    finally:
        for hook in hooks:
            hook.remove()
    share_active = torch.cat(active).float().mean().item() if active else 1.0
    learns = generator.gate.learned and generator.k > 1
    usage = {"gate_usage": fakes.weights_BK.float().mean(dim=0).tolist()} if learns else {}
    return {"active_neurons": share_active, **usage}
