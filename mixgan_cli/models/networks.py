"""The generator, the discriminator, and how both are built from the configuration."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mixgan_cli.config.components import build
from mixgan_cli.config.schema import Model
from mixgan_cli.errors import ConfigError, UserError
from mixgan_cli.models.backbones.base import Backbone
from mixgan_cli.models.experts import Experts, SharedLayers, one_hot_like
from mixgan_cli.models.gates import Gate, GateWeights
from mixgan_cli.models.heads import Head
from mixgan_cli.runtime.device import total_memory
from mixgan_cli.runtime.random import normal, uniform


class Fakes(NamedTuple):
    """What a generator makes: samples [B, …] in [-1, 1] (points: anywhere), and the gate's weights [B, K]."""

    samples: Tensor
    weights_BK: Tensor


class Generator(nn.Module):
    r"""x = trunk(\sum_k a_k(z) G_k(stem(z))): what the experts make is mixed or chosen, then the trunk runs once.

    Most experts have a first layer each: no stem, a long trunk. Where they are whole networks there is no trunk; where
    they have the last layers, the stem is what they share.
    """

    def __init__(
        self,
        gate: Gate,
        experts: Experts,
        shared: SharedLayers,
        latent_size: int,
        prior: Literal["normal", "uniform"],
    ) -> None:
        super().__init__()
        self.stem, self.gate, self.experts, self.trunk = shared.stem, gate, experts, shared.trunk
        self.latent_size, self.prior = latent_size, prior

    @property
    def k(self) -> int:
        """The number of experts."""
        return self.gate.k

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def latents(self, n: int, device: torch.device | str | None = None) -> Tensor:
        """Draw latents [n, Z] from the prior with torch's random state, on the generator's device or another.

        While training, n is what the gate can share out; the same latents come again where it gives them to all.
        """
        device = self.device if device is None else device
        repeats = self.gate.experts_per_latent if self.training else 1
        parts = self.k if self.training and self.gate.splits_batch and repeats == 1 else 1
        draw = uniform if self.prior == "uniform" else normal
        drawn = draw(n // repeats, self.latent_size, device=device, parts=parts)
        return (drawn * 2 - 1 if self.prior == "uniform" else drawn).repeat(repeats, 1)

    def forward(self, latent_BZ: Tensor, expert: int | None = None) -> Fakes:
        """Make one sample a latent, by the mixture, or by one expert alone.

        Raises:
            ConfigError: there is no such expert.
        """
        inputs = self.stem(latent_BZ)
        if expert is not None:
            return self._forward_one(expert, inputs)
        mixed, weights = self.gate.mix(latent_BZ, inputs, self.experts)
        return Fakes(self.trunk(mixed), weights.weights_BK)

    def weights(self, latent_BZ: Tensor) -> GateWeights:
        """Return the gate's weights alone, with nothing made that they do not need."""
        return self.gate.weights(latent_BZ, self.stem(latent_BZ), self.experts)

    def _forward_one(self, expert: int, inputs: Tensor) -> Fakes:
        if not 0 <= expert < self.k:
            raise ConfigError(f"expert={expert}: the experts are numbered 0 to {self.k - 1}")
        weights_BK = one_hot_like(torch.full((len(inputs),), expert), self.k, inputs)
        return Fakes(self.trunk(self.experts.forward_one(expert, inputs)), weights_BK)


class Answer(NamedTuple):
    """What the discriminator says: scores [N], the experts' logits [N, L] or None, and the features [N, F]."""

    score_N: Tensor
    experts_NL: Tensor | None
    features_NF: Tensor


class Discriminator(nn.Module):
    """The head's judgement of samples [N, …], and the features it was made on."""

    def __init__(self, body: nn.Module, head: Head) -> None:
        super().__init__()
        self.body = body
        self.head: Head = head

    def forward(self, samples: Tensor, isolated: bool = False) -> Answer:
        """Judge samples [N, …]; `isolated`, what the classifier of experts learns does not reach the body."""
        features_NF = self.body(samples)
        score_N, experts_NL = self.head(features_NF, isolated)
        return Answer(score_N, experts_NL, features_NF)


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
    shared = experts.shared_layers(backbone, model.latent.size)
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
    needed, there = 8 * sum(map(_count, networks)), total_memory()  # their weights, and the average's
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
