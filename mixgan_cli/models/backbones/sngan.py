"""SNGAN's networks: a ResNet for 32, 48 and 64 pixels, and a DCGAN (Miyato et al. 2018, released code, mimicry)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Shape, Width, add_spectral_norm, square_images
from mixgan_cli.models.layers import BatchNorm2d, glorot_uniform, initialise_layers, zero_bias

Upsampling = Literal["nearest", "bilinear"]
STYLES = {48: (6, (2, 1, 0.5, 0.25)), 64: (4, (4, 2, 1, 0.5, 0.25))}
"""Of 48 and 64 pixels: side of the first feature maps, and widths of the generator as multiples of `channels`."""


class _Doubling(ABC):
    """A generator with a dense layer to [C, start, start], then stages that each double the side."""

    feature_stage = 2
    image_channels: int
    start: int
    """Side of the first feature maps."""
    widths: list[int]
    """Numbers of channels, from the first feature maps to those before the image."""
    hidden_shape: tuple[int, int, int]

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        channels = self.image_channels if stages == len(self.widths) else self.widths[stages - 1]
        return channels * (self.start * 2 ** (stages - 1)) ** 2

    def trunk(self) -> nn.Module:
        """Build the generator without its dense layer: [B, H] → [B, C, S, S] in [-1, 1]."""
        return nn.Sequential(nn.Unflatten(1, self.hidden_shape), *self._doublings())

    @abstractmethod
    def _doublings(self) -> list[nn.Module]:
        """Build a stage for each doubling; the last one ends with the image."""


class SNGANResNet(_Doubling):
    """Residual blocks with batch norm in the generator and spectral norm in the discriminator.

    With 256 channels these are the networks of the papers' experiments: at 32 pixels all layers of the generator have
    256 channels and those of the discriminator half as many (Miyato et al. 2018, released code); at 48 and 64 pixels
    widths halve towards the image, from 512 or 1024 to 64 (mimicry). Images of 8 and 16 pixels have the style of 32
    with fewer blocks, which is our own choice. The hidden vector is [C, 4, 4], or [C, 6, 6] at 48 pixels.

    Args:
        shape: (C, S, S).
        channels: width of the generator at 32 pixels; the widths at 48 and 64 pixels are in proportion.
        upsampling: nearest (released code); bilinear (mimicry).
        last_bias: if true, heads have biases (mimicry); the released code has none.
        spectral_norm: if true, apply spectral norm to the discriminator, including the head.

    Raises:
        ConfigError: the samples are not square images of 8, 16, 32, 48 or 64 pixels a side, or the channels cannot be
            divided as often as needed.
    """

    def __init__(
        self, shape: Shape, channels: Width, upsampling: Upsampling, last_bias: bool, spectral_norm: bool
    ) -> None:
        self.image_channels, side = square_images(shape, "sngan_resnet")
        if side not in (8, 16, 32, 48, 64):
            raise ConfigError(f"data.size={side}: model/backbone=sngan_resnet takes 8, 16, 32, 48 or 64 pixels a side")
        if channels % 4:
            raise ConfigError(f"model.backbone.channels={channels}: is divided by 4. Take a multiple of 4")
        doublings = (side // 4).bit_length() - 1
        self.start, multiples = STYLES.get(side, (4, (1,) * (doublings + 1)))
        self.widths = [int(channels * multiple) for multiple in multiples]
        if side in STYLES:
            self.critic_widths = [channels // 4 * 2**level for level in range(5)]
            self.halvings = [True] * 4 + [side == 64]
        else:
            downs = min(2, doublings)
            self.critic_widths = [channels // 2] * (downs + 2)
            self.halvings = [True] * downs + [False, False]
        self.upsampling, self.head_bias, self.spectral_norm = upsampling, last_bias, spectral_norm
        self.hidden_shape = (self.widths[0], self.start, self.start)
        self.hidden_size, self.features = math.prod(self.hidden_shape), self.critic_widths[-1]
        self.initialise = self.initialise_head = glorot_uniform

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages: a dense layer, then one residual block per doubling."""
        dense = initialise_layers(nn.Sequential(nn.Linear(latent_size, self.hidden_size)), self.initialise)
        return [nn.Sequential(*dense, nn.Unflatten(1, self.hidden_shape)), *self._doublings()]

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, C, S, S] → features [N, F], summed over the pixels."""
        first, *others = zip(pairwise([self.image_channels, *self.critic_widths]), self.halvings, strict=True)
        blocks = [CriticBlock(*first[0], halve=first[1], first=True)]
        blocks += [CriticBlock(*widths, halve=halve, first=False) for widths, halve in others]
        body = nn.Sequential(*blocks, nn.ReLU(), SumOverPixels())
        return add_spectral_norm(body) if self.spectral_norm else body

    def _doublings(self) -> list[nn.Module]:
        blocks = [GeneratorBlock(*widths, self.upsampling) for widths in pairwise(self.widths)]
        last = nn.Conv2d(self.widths[-1], self.image_channels, kernel_size=3, padding=1)
        glorot_uniform(last.weight, last.bias, last.weight[0].numel())
        end = nn.Sequential(blocks[-1], BatchNorm2d(self.widths[-1]), nn.ReLU(), last, nn.Tanh())
        return [*blocks[:-1], end]


class GeneratorBlock(nn.Module):
    """Batch norm, ReLU, doubling, 3×3; batch norm, ReLU, 3×3; added to a doubling and 1×1 (Miyato et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, upsampling: Upsampling) -> None:
        super().__init__()
        double = nn.Upsample(scale_factor=2, mode=upsampling, align_corners=None if upsampling == "nearest" else False)
        self.residual = nn.Sequential(
            BatchNorm2d(inputs),
            nn.ReLU(),
            double,
            _convolution(inputs, outputs, 3),
            BatchNorm2d(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs, 3),
        )
        self.shortcut = nn.Sequential(double, _convolution(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps [N, outputs, 2 S, 2 S]."""
        return self.residual(x) + self.shortcut(x)


class CriticBlock(nn.Module):
    """ReLU, 3×3, ReLU, 3×3, and a mean over 2×2 pixels where the side is halved (Miyato et al. 2018).

    The shortcut is a 1×1 convolution and the same mean, or x itself if neither width nor side changes. The first block
    has no ReLU before its first layer and is as wide inside as outside; inside the others are as wide as their inputs.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool) -> None:
        super().__init__()
        inside = outputs if first else inputs
        pool: list[nn.Module] = [nn.AvgPool2d(2)] if halve else []
        self.residual = nn.Sequential(
            *([] if first else [nn.ReLU()]),
            _convolution(inputs, inside, 3),
            nn.ReLU(),
            _convolution(inside, outputs, 3),
            *pool,
        )
        change = halve or inputs != outputs
        # a mean and a 1×1 convolution commute: first the mean, on four times as many pixels the other is slower
        self.shortcut = nn.Sequential(*pool, *([_convolution(inputs, outputs, 1)] if change else []))

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps [N, outputs, S, S] or [N, outputs, S/2, S/2]."""
        return self.residual(x) + self.shortcut(x)


class SumOverPixels(nn.Module):
    """The sum over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, C] of feature maps [N, C, S, S]."""
        return x.sum(dim=(2, 3))


class SNGANDCGAN(_Doubling):
    """4×4 convolutions with stride 2, in the discriminator each after a 3×3 convolution (Miyato et al. 2018, table 3).

    The generator doubles the side three times, with batch norm; the discriminator halves it three times, with spectral
    norm and no other normalisation (as in the code pytorch-gan-collections). The hidden vector is [8 channels, S/8,
    S/8], before its batch norm and ReLU.

    Args:
        shape: (C, S, S).
        channels: number of channels next to the image, doubled each time the resolution is halved.
        last_bias: if true, heads have biases.
        spectral_norm: if true, apply spectral norm to the discriminator, including the head.
        init_std: standard deviation of the initial weights of all layers; biases are 0.

    Raises:
        ConfigError: the samples are not square images with a side divisible by 8.
    """

    def __init__(self, shape: Shape, channels: Width, last_bias: bool, spectral_norm: bool, init_std: float) -> None:
        self.image_channels, side = square_images(shape, "sngan_dcgan")
        if side % 8:
            raise ConfigError(f"data.size={side}: model/backbone=sngan_dcgan takes multiples of 8 pixels a side")
        self.start, self.widths = side // 8, [channels * 2**level for level in (3, 2, 1, 0)]
        self.head_bias, self.spectral_norm = last_bias, spectral_norm
        self.hidden_shape = (self.widths[0], self.start, self.start)
        self.hidden_size = self.features = math.prod(self.hidden_shape)
        self.initialise = self.initialise_head = zero_bias(init_std)

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages: a dense layer, then one stage per doubling of the resolution."""
        dense = nn.Sequential(nn.Linear(latent_size, self.hidden_size), nn.Unflatten(1, self.hidden_shape))
        return [initialise_layers(dense, self.initialise), *self._doublings()]

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, C, S, S] → features [N, F]."""
        narrow_to_wide = self.widths[::-1]
        layers = [nn.Conv2d(self.image_channels, narrow_to_wide[0], kernel_size=3, padding=1), nn.LeakyReLU(0.1)]
        for inputs, outputs in pairwise(narrow_to_wide):
            layers += [nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.1)]
            layers += [nn.Conv2d(outputs, outputs, kernel_size=3, padding=1), nn.LeakyReLU(0.1)]
        body = initialise_layers(nn.Sequential(*layers, nn.Flatten()), self.initialise)
        return add_spectral_norm(body) if self.spectral_norm else body

    def _doublings(self) -> list[nn.Module]:
        stages = [
            [BatchNorm2d(inputs), nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)]
            for inputs, outputs in pairwise(self.widths)
        ]
        last = nn.Conv2d(self.widths[-1], self.image_channels, kernel_size=3, padding=1)
        stages[-1] += [BatchNorm2d(self.widths[-1]), nn.ReLU(), last, nn.Tanh()]
        return [initialise_layers(nn.Sequential(*layers), self.initialise) for layers in stages]


def _convolution(inputs: int, outputs: int, size: int) -> nn.Module:
    """Return a convolution of a block: Glorot uniform weights, with gain √2 for 3×3, and biases 0."""
    layer = nn.Conv2d(inputs, outputs, kernel_size=size, padding=size // 2)
    glorot_uniform(layer.weight, layer.bias, layer.weight[0].numel(), math.sqrt(2) if size == 3 else 1.0)
    return layer
