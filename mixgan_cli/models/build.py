"""Puts the parts of a model together for samples of a given shape."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from mixgan_cli import hardware
from mixgan_cli.config import Model
from mixgan_cli.errors import ConfigError, UserError
from mixgan_cli.models.backbones import Backbone
from mixgan_cli.models.discriminator import Discriminator
from mixgan_cli.models.experts import Experts
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
    sizes = {"k": model.k, "latent_size": model.latent.size}
    backbone: Backbone = build(model.backbone, shape=shape)
    experts: Experts = build(
        model.experts, **sizes, hidden_size=backbone.hidden_size, initialise=backbone.initialise, backbone=backbone
    )
    gate = build(model.gate, **sizes, feature_size=experts.feature_size)
    shared = experts.shared(backbone, model.latent.size)
    generator = Generator(gate, experts, shared, model.latent.size, model.latent.distribution)
    head = build(
        model.head,
        k=model.k,
        features=backbone.features,
        initialise_head=backbone.initialise_head,
        spectral_norm=backbone.spectral_norm,
    )
    return Networks(generator, Discriminator(backbone.body(), head))


def check_size(model: Model, shape: tuple[int, ...]) -> None:
    """Refuse networks that this machine has no memory for, before it is taken.

    Raises:
        ConfigError: that; or a part cannot work with this K or this shape.
    """
    try:
        with torch.device("meta"):  # sizes alone
            networks = build_networks(model, shape)
    except UserError:
        raise
    except Exception:  # a part of a user's own may not stand that
        return
    needed, there = 8 * sum(map(_count, networks)), hardware.memory()  # their weights, and the average's
    if needed > there:
        raise ConfigError(
            f"model: its weights take {needed / 2**30:,.0f} GiB, and this machine has {there / 2**30:.0f}. "
            "Take a smaller model.k, model.latent.size or model.backbone"
        )


def parameter_counts(networks: Networks) -> dict[str, int]:
    """Count parameters: of the gate, the experts, what they share ("trunk"), the generator and the discriminator."""
    generator, discriminator = networks
    return {
        "gate": _count(generator.gate),
        "experts": _count(generator.experts),
        "trunk": _count(generator.stem) + _count(generator.trunk),
        "generator": _count(generator),
        "discriminator": _count(discriminator),
    }


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
