"""PacGAN's networks: a maxout discriminator for points, and two DCGANs for Stacked MNIST (Lin et al. 2018).

In all generators batch norm and ReLU stand before a layer, not after it, so that K experts are K first layers without
them: with one expert of `model/experts=linear` and `model.experts.init=backbone` they are the published networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Shape, Width, points, square_images
from mixgan_cli.models.backbones.mggan import TFPaddedConv2d, TFPaddedConvTranspose2d
from mixgan_cli.models.layers import (
    BatchNorm1d,
    BatchNorm2d,
    image_norm,
    initialise_layers,
    truncated_normal,
    zero_bias,
)


class _PacGAN:
    """What the networks have in common: weights ~ N(0, init_std²), biases 0, no spectral norm."""

    head_bias, spectral_norm, feature_stage = True, False, 2

    def __init__(self, init_std: float) -> None:
        self.init_std = init_std
        self.initialise = self.initialise_head = zero_bias(init_std)


class MaxoutMLP(_PacGAN):
    """Dense layers for points [D]: batch norm and ReLU in the generator, maxout in the discriminator.

    These are PacGAN's networks for the ring and the grid (released code, synthetic_data_experiments). There, layers
    before batch norm have no biases, which have no effect.

    Args:
        shape: (D,).
        generator_widths: widths of the hidden layers, the output of the experts first.
        discriminator_widths: widths of the hidden layers.
        pieces: number of linear functions of which a unit of the discriminator is the maximum.
        init_std: standard deviation of the initial weights.

    Raises:
        ConfigError: the samples are not points, or a network has no hidden layer.
    """

    def __init__(
        self,
        shape: Shape,
        generator_widths: Sequence[Width],
        discriminator_widths: Sequence[Width],
        pieces: Annotated[int, Field(gt=0, le=64)],
        init_std: NonNegativeFloat,
    ) -> None:
        super().__init__(init_std)
        size = points(shape, "pacgan_points")
        for key, widths in {"generator": generator_widths, "discriminator": discriminator_widths}.items():
            if not widths:
                raise ConfigError(f"model.backbone.{key}_widths=[]: the network needs a hidden layer. Take [200]")
        self.widths, self.critic_widths = [*generator_widths, size], [size, *discriminator_widths]
        self.pieces = pieces
        self.hidden_size, self.hidden_shape = self.widths[0], (self.widths[0],)
        self.features = self.critic_widths[-1]

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages, one dense layer each."""
        first = initialise_layers(nn.Sequential(nn.Linear(latent_size, self.hidden_size)), self.initialise)
        return [first, *self._others()]

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        return self.widths[stages - 1]

    def trunk(self) -> nn.Module:
        """Build the generator without its first stage: [B, H] → [B, D]."""
        return nn.Sequential(*self._others())

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, D] → features [N, F]."""
        layers = [Maxout(*sizes, self.pieces) for sizes in pairwise(self.critic_widths)]
        return initialise_layers(nn.Sequential(*layers), self.initialise)

    def _others(self) -> list[nn.Module]:
        return [
            initialise_layers(
                nn.Sequential(BatchNorm1d(inputs), nn.ReLU(), nn.Linear(inputs, outputs)), self.initialise
            )
            for inputs, outputs in pairwise(self.widths)
        ]


class Maxout(nn.Linear):
    """Units that are the maximum of `pieces` linear functions (Goodfellow et al. 2013, eq. 1)."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__(inputs, outputs * pieces)
        self.pieces = pieces

    def forward(self, input: Tensor) -> Tensor:
        """Return the units [N, outputs]."""
        return super().forward(input).unflatten(1, (-1, self.pieces)).amax(dim=2)


class PacGANDCGAN(_PacGAN):
    """Strided convolutions with TensorFlow's SAME padding for images of any side, halved and rounded up.

    With 5×5 kernels these are the networks of PacGAN's VEEGAN experiment on Stacked MNIST, at 28 pixels 512×2×2 →
    256×4×4 → 128×7×7 → 64×14×14 → the image; with 3×3 kernels and few channels those of its unrolled experiment, whose
    discriminator is deliberately small (released code, stacked_MNIST_experiments).

    Args:
        shape: (C, S, S).
        kernel: side of the kernels [pixels].
        layers: number of doublings of the generator, and of halvings of the discriminator.
        channels: number of the generator's channels next to the image, doubled each time the resolution is halved.
        discriminator_channels: number of channels of the discriminator's first layer, doubled from layer to layer.
        last_convolution: if true, a convolution of `channels` feature maps makes the image (unrolled experiment); if
            false, the last doubling does.
        discriminator_norm: normalisation in the discriminator: batch; none or layer for a gradient penalty.
        first_norm: if true, also normalise the discriminator's first layer (unrolled experiment).
        slope: slope of the discriminator's leaky ReLU below zero.
        init_std: standard deviation of the initial weights; those of convolutions are truncated at 2 init_std.

    Raises:
        ConfigError: the samples are not square images, or too small for the layers.
    """

    def __init__(
        self,
        shape: Shape,
        kernel: Literal[3, 5],
        layers: Annotated[int, Field(gt=0, le=8)],
        channels: Width,
        discriminator_channels: Width,
        last_convolution: bool,
        discriminator_norm: Literal["none", "batch", "layer"],
        first_norm: bool,
        slope: NonNegativeFloat,
        init_std: NonNegativeFloat,
    ) -> None:
        super().__init__(init_std)
        image_channels, side = square_images(shape, "pacgan_dcgan")
        if side < 2**layers:
            raise ConfigError(
                f"data.size={side}: model.backbone.layers={layers} halves it {layers} times. Take at least {2**layers}"
            )
        self.sides = [side]
        for _ in range(layers):
            self.sides.append(-(-self.sides[-1] // 2))
        narrow = [channels * 2**level for level in range(layers + last_convolution)]
        self.widths = [*reversed(narrow), *([] if last_convolution else [image_channels])]
        self.image_channels = image_channels
        self.critic_widths = [image_channels, *(discriminator_channels * 2**level for level in range(layers))]
        self.kernel, self.last_convolution, self.slope = kernel, last_convolution, slope
        self.discriminator_norm, self.first_norm = discriminator_norm, first_norm
        self.hidden_shape = (self.widths[0], self.sides[-1], self.sides[-1])
        self.hidden_size = self.widths[0] * self.sides[-1] ** 2
        self.features = self.critic_widths[-1] * self.sides[-1] ** 2

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages: a dense layer, then one stage per doubling of the resolution."""
        first = initialise_layers(nn.Sequential(nn.Linear(latent_size, self.hidden_size)), self.initialise)
        return [nn.Sequential(*first, nn.Unflatten(1, self.hidden_shape)), *self._doublings()]

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        channels = self.image_channels if stages == len(self.sides) else self.widths[stages - 1]
        return channels * self.sides[-stages] ** 2

    def trunk(self) -> nn.Module:
        """Build the generator without its dense layer: [B, H] → [B, C, S, S] in [-1, 1]."""
        return nn.Sequential(nn.Unflatten(1, self.hidden_shape), *self._doublings())

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, C, S, S] → features [N, F]."""
        layers: list[nn.Module] = []
        for (inputs, outputs), side in zip(pairwise(self.critic_widths), self.sides[1:], strict=True):
            norm = self.discriminator_norm if layers or self.first_norm else "none"
            layers.append(TFPaddedConv2d(inputs, outputs, self.kernel))
            layers += [*image_norm(norm, outputs, side), nn.LeakyReLU(self.slope)]
        return initialise_layers(nn.Sequential(*layers, nn.Flatten()), truncated_normal(self.init_std))

    def _doublings(self) -> list[nn.Module]:
        stages = []
        for (inputs, outputs), side in zip(pairwise(self.widths), self.sides[-2::-1], strict=True):
            up = TFPaddedConvTranspose2d(inputs, outputs, self.kernel, odd=side % 2 == 1)
            stages.append(initialise_layers(nn.Sequential(BatchNorm2d(inputs), nn.ReLU(), up), self.initialise))
        if self.last_convolution:
            last = nn.Conv2d(self.widths[-1], self.image_channels, self.kernel, padding=self.kernel // 2)
            image = nn.Sequential(BatchNorm2d(self.widths[-1]), nn.ReLU(), last)
            stages[-1] = nn.Sequential(*stages[-1], *initialise_layers(image, truncated_normal(self.init_std)))
        return [*stages[:-1], nn.Sequential(*stages[-1], nn.Tanh())]
