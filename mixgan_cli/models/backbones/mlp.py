"""The MLP backbone: fully connected layers for points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import NonNegativeFloat
from torch import nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Init, Shape, Width, add_spectral_norm, points
from mixgan_cli.models.layers import get_initialiser, initialise_layers


class MLP:
    """Fully connected layers for points [D], with ReLU in the generator and leaky ReLU in the discriminator.

    With slope 0 and He initialisation these are the toy networks of the HMoG thesis.

    Args:
        shape: (D,).
        generator_widths: widths of the hidden layers, the output of the experts first. If empty, the experts generate
            the points themselves (HMoG's toy).
        discriminator_widths: widths of the hidden layers.
        slope: slope of the discriminator's leaky ReLU below zero; 0 gives a ReLU.
        spectral_norm: if true, apply spectral norm to the discriminator, including the head.
        init: he: He initialisation (HMoG's toy); radford: weights ~ N(0, init_std²), biases 0 (MGGAN); hmog: weights
            and biases ~ N(0, init_std²); torch, torch_0.3: torch's default, of all versions.
        init_std: the standard deviation of hmog and radford.

    Raises:
        ConfigError: the samples are not points, or the discriminator has no hidden layer.
    """

    head_bias = True

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
        size = points(shape, "mlp")
        if not discriminator_widths:
            raise ConfigError(
                "model.backbone.discriminator_widths=[]: the discriminator needs a hidden layer. Take [20], for example"
            )
        self.generator_widths = [*generator_widths, size]
        self.discriminator_widths = [size, *discriminator_widths]
        self.slope, self.spectral_norm = slope, spectral_norm
        self.initialise = self.initialise_head = get_initialiser(init, init_std)
        self.hidden_size, self.hidden_shape = self.generator_widths[0], (self.generator_widths[0],)
        self.features = self.discriminator_widths[-1]
        self.feature_stage = max(1, len(self.generator_widths) // 2)

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages, one dense layer each."""
        return self._dense_stages([latent_size, *self.generator_widths])

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        return self.generator_widths[stages - 1]

    def trunk(self) -> nn.Module:
        """Build the generator without its first stage: [B, H] → [B, D]."""
        return nn.Sequential(*self._dense_stages(self.generator_widths))

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, D] → features [N, F]."""
        activation = nn.LeakyReLU(self.slope) if self.slope else nn.ReLU()
        body = nn.Sequential(*(self._dense(*sizes, activation) for sizes in pairwise(self.discriminator_widths)))
        return add_spectral_norm(body) if self.spectral_norm else body

    def _dense_stages(self, widths: Sequence[int]) -> list[nn.Module]:
        layers = [self._dense(*sizes, nn.ReLU()) for sizes in pairwise(widths)]
        return [*layers[:-1], *(layer[:1] for layer in layers[-1:])]  # no ReLU on the generated point

    def _dense(self, inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
        return initialise_layers(nn.Sequential(nn.Linear(inputs, outputs), activation), self.initialise)
