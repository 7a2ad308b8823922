"""The MLP backbone: fully connected layers for points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import NonNegativeFloat
from torch import nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Init, Shape, Width, spectrally_normalised
from mixgan_cli.models.layers import apply, named


class MLP:
    """Fully connected layers for points [D], ReLU in the generator, a leaky ReLU of any slope in the discriminator.

    With ReLU in both and He initialisation they are those of the HMoG thesis's toy.

    Args:
        shape: (D,).
        generator_widths: hidden layers, beginning with the experts' output; empty, the experts give the point itself
            (HMoG's toy).
        discriminator_widths: hidden layers.
        slope: of the discriminator's ReLU below zero; 0 is a plain one.
        spectral_norm: of the discriminator's layers, the head's too.
        init: he, as HMoG's toy; radford: weights ~ N(0, init_std²), biases 0, as MGGAN's; hmog: both; torch.
        init_std: of hmog and radford.

    Raises:
        ConfigError: the samples are not points, or the discriminator has no hidden layer.
    """

    def __init__(
        self,
        shape: Shape,
        generator_widths: Sequence[Width],
        discriminator_widths: Sequence[Width],
        slope: float,
        spectral_norm: bool,
        init: Init,
        init_std: NonNegativeFloat,
    ) -> None:
        if len(shape) != 1:
            raise ConfigError(
                f"model/backbone=mlp makes points, the data are images {shape}. Take model/backbone=dcgan"
            )
        if not discriminator_widths:
            raise ConfigError("model.backbone.discriminator_widths=[]: the discriminator needs a hidden layer")
        self.generator_widths = [*generator_widths, *shape]
        self.discriminator_widths = [*shape, *discriminator_widths]
        self.slope, self.spectral_norm = slope, spectral_norm
        self.initialise = self.initialise_head = named(init, init_std)
        self.hidden_size = self.generator_widths[0]
        self.features = self.discriminator_widths[-1]
        self.feature_stage = max(1, len(self.generator_widths) // 2)

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Return the generator in pieces, a dense layer each."""
        return self._down_to_points([latent_size, *self.generator_widths])

    def stage_size(self, stages: int) -> int:
        """Return how many units there are after so many stages."""
        return self.generator_widths[stages - 1]

    def trunk(self) -> nn.Module:
        """Return the generator after its first stage: [B, H] → [B, D]."""
        return nn.Sequential(*self._down_to_points(self.generator_widths))

    def body(self) -> nn.Module:
        """Return the discriminator without its head: [N, D] → [N, features]."""
        activation = nn.LeakyReLU(self.slope) if self.slope else nn.ReLU()
        body = nn.Sequential(*(self._dense(*sizes, activation) for sizes in pairwise(self.discriminator_widths)))
        return spectrally_normalised(body) if self.spectral_norm else body

    def _down_to_points(self, widths: Sequence[int]) -> list[nn.Module]:
        layers = [self._dense(*sizes, nn.ReLU()) for sizes in pairwise(widths)]
        return [*layers[:-1], *(layer[:1] for layer in layers[-1:])]  # the point itself has no ReLU

    def _dense(self, inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
        return apply(nn.Sequential(nn.Linear(inputs, outputs), activation), self.initialise)
