"""Puts the parts of a model together for samples of a given shape."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from mixgan_cli.config import Model
from mixgan_cli.models.discriminator import Discriminator
from mixgan_cli.models.generator import Generator
from mixgan_cli.parts import build


class Networks(NamedTuple):
    """The two players."""

    generator: Generator
    discriminator: Discriminator


def build_networks(model: Model, shape: tuple[int, ...]) -> Networks:
    """Return generator and discriminator, freshly initialised with torch's current random state.

    Args:
        model: the configuration's model group.
        shape: of one sample: (C, H, W) for images, (D,) for points.

    Raises:
        ConfigError: a part cannot work with this K or this shape.
    """
    gate = build(model.gate, k=model.k, latent_size=model.latent.size)
    backbone = build(model.backbone, shape=shape)
    experts = build(
        model.experts,
        k=model.k,
        latent_size=model.latent.size,
        hidden_size=backbone.hidden_size,
        initialise=backbone.initialise,
    )
    generator = Generator(gate, experts, backbone.trunk(), model.latent.size, model.latent.distribution)
    head = build(
        model.head,
        k=model.k,
        features=backbone.features,
        initialise=backbone.initialise,
        spectral_norm=backbone.spectral_norm,
    )
    return Networks(generator, Discriminator(backbone.body(), head))


def parameter_counts(networks: Networks) -> dict[str, int]:
    """Count parameters: of the gate, the experts, the trunk, the generator (their sum) and the discriminator."""
    generator, discriminator = networks
    parts = {
        "gate": generator.gate,
        "experts": generator.experts,
        "trunk": generator.trunk,
        "generator": generator,
        "discriminator": discriminator,
    }
    return {name: _count(part) for name, part in parts.items()}


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
