"""R3GAN's networks: residual blocks with grouped convolutions, without norms (Huang et al. 2024, released code)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Shape, Width, square_images
from mixgan_cli.models.convolution import GroupedConv2d, grouped_conv2d, grouped_conv_transpose2d
from mixgan_cli.models.layers import scaled_normal

SLOPE = 0.2
"""Slope of all leaky ReLUs below zero."""


class R3GAN:
    """A basis layer, then residual blocks at each resolution, with [1, 3, 3, 1] filters between resolutions.

    Layers from 4 to 32 pixels have `channels` channels, those above them half as many for each doubling. With 768 and
    group_size 16 these are the networks for CIFAR-10 and Stacked-MNIST (32 pixels), FFHQ-64 and FFHQ-256; with 1536 and
    32, those for ImageNet-32. There is no nonlinearity after the basis layer, and no tanh after the last layer. The
    hidden vector is [channels, 4, 4], and the features are `channels` numbers.

    Args:
        shape: (C, S, S).
        channels: number of channels from 4 to 32 pixels.
        blocks: number of residual blocks at each resolution.
        group_size: channels of a group in the 3×3 convolutions; a layer with fewer channels is one group.

    Raises:
        ConfigError: the samples are not square images of 8, 16, 32, 64, 128 or 256 pixels a side, or the channels
            cannot be halved or grouped.
    """

    spectral_norm = False
    head_bias = False
    feature_stage = 2

    def __init__(
        self, shape: Shape, channels: Width, blocks: Annotated[int, Field(gt=0, le=16)], group_size: Width
    ) -> None:
        self.image_channels, side = square_images(shape, "r3gan")
        if side & (side - 1) or not 8 <= side <= 256:
            raise ConfigError(f"data.size={side}: model/backbone=r3gan takes 8, 16, 32, 64, 128 or 256 pixels a side")
        self.sides = [4 * 2**stage for stage in range((side // 4).bit_length())]
        if channels % max(1, side // 32):
            raise ConfigError(
                f"model.backbone.channels={channels}: is halved up to {side} pixels. Take a multiple of {side // 32}"
            )
        self.widths = [channels // max(1, each // 32) for each in self.sides]
        for width in self.widths:
            if 2 * width > group_size and 2 * width % group_size:
                raise ConfigError(
                    f"model.backbone.group_size={group_size}: does not divide {2 * width} channels. Take a divisor"
                )
        self.blocks, self.group_size = blocks, group_size
        self.hidden_shape = (channels, 4, 4)
        self.hidden_size, self.features = 16 * channels, channels
        self.initialise = self.initialise_head = scaled_normal

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages: the basis layer, then one stage per resolution."""
        return [GenerativeBasis(latent_size, self.hidden_shape), *self._resolutions()]

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        if stages == 1:
            return self.hidden_size
        last = stages == len(self.sides) + 1
        return (self.image_channels if last else self.widths[stages - 2]) * self.sides[stages - 2] ** 2

    def trunk(self) -> nn.Module:
        """Build the generator without its basis layer: [B, H] → [B, C, S, S]."""
        return nn.Sequential(nn.Unflatten(1, self.hidden_shape), *self._resolutions())

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, C, S, S] → features [N, F]."""
        layers: list[nn.Module] = [_pointwise(self.image_channels, self.widths[-1])]
        for stage in reversed(range(len(self.sides))):
            layers += self._blocks_of(self.widths[stage])
            if stage:
                layers += [Resample("down"), *_change(self.widths[stage], self.widths[stage - 1])]
        return nn.Sequential(*layers, DiscriminativeBasis(self.features))

    def _resolutions(self) -> list[nn.Module]:
        stages: list[list[nn.Module]] = []
        for stage, width in enumerate(self.widths):
            up = [*_change(self.widths[stage - 1], width), Resample("up")] if stage else []
            stages.append([*up, *self._blocks_of(width)])
        stages[-1].append(_pointwise(self.widths[-1], self.image_channels))
        return [nn.Sequential(*layers) for layers in stages]

    def _blocks_of(self, width: int) -> list[nn.Module]:
        groups = max(1, 2 * width // self.group_size)
        return [ResidualBlock(width, groups, self.blocks * len(self.sides)) for _ in range(self.blocks)]


class GenerativeBasis(nn.Module):
    """y = B ⊙ (A z): each channel is a learned map B ~ N(0, 1), scaled by a linear function of z, A ~ N(0, 1/Z).

    Args:
        latent_size: Z.
        hidden_shape: (C, 4, 4).
    """

    def __init__(self, latent_size: int, hidden_shape: Shape) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(hidden_shape))
        self.linear = nn.Linear(latent_size, hidden_shape[0], bias=False)
        scaled_normal(self.linear.weight, None, latent_size)

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return feature maps [B, C, 4, 4]."""
        return self.basis * self.linear(latent_BZ)[..., None, None]


class DiscriminativeBasis(nn.Module):
    """The sum over pixels of each channel times a learned map ~ N(0, 1/16): a depthwise convolution of 4×4 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 4, 4))
        scaled_normal(self.weight, None, 4 * 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return features [N, C] of feature maps [N, C, 4, 4]."""
        return (x * self.weight).sum(dim=(2, 3))


class ResidualBlock(nn.Module):
    """x + f(x), f: 1×1 to twice the channels, leaky ReLU, 3×3 in groups, leaky ReLU, 1×1 back.

    The last convolution is 0 at first. The gain of the others is √(2/(1 + 0.2²)) · L^(-1/4), for L blocks in the
    network (fix-up, Zhang et al. 2019).

    Args:
        channels: number of channels of x.
        groups: number of groups of the 3×3 convolution.
        blocks: L.
    """

    def __init__(self, channels: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, kernel_size=1)
        self.spatial = GroupedConv2d(2 * channels, 2 * channels, kernel_size=3, padding=1, groups=groups)
        self.project = nn.Conv2d(2 * channels, channels, kernel_size=1, bias=False)
        gain = math.sqrt(2 / (1 + SLOPE**2)) * blocks**-0.25
        layers: tuple[nn.Conv2d, ...] = (self.expand, self.spatial)
        for layer in layers:
            scaled_normal(layer.weight, layer.bias, layer.weight[0].numel(), gain)
        nn.init.zeros_(self.project.weight)
        self.activation = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the same shape."""
        return x + self.project(self.activation(self.spatial(self.activation(self.expand(x)))))


class Resample(nn.Module):
    """Double or halve the side of feature maps with the separable filter [1, 3, 3, 1]; outside the maps are zeros.

    Inside, doubling equals bilinear interpolation.
    """

    kernel: Tensor

    def __init__(self, way: Literal["up", "down"]) -> None:
        super().__init__()
        self.way = way
        filter_4 = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if way == "up" else 8)
        self.register_buffer("kernel", filter_4.outer(filter_4).view(1, 1, 4, 4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps [N, C, 2 S, 2 S] or [N, C, S/2, S/2]."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        resample = grouped_conv_transpose2d if self.way == "up" else grouped_conv2d
        return resample(x, kernel, stride=2, padding=1, groups=channels)


def _pointwise(inputs: int, outputs: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)
    scaled_normal(layer.weight, None, inputs)
    return layer


def _change(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a 1×1 convolution as a list, empty if the width stays."""
    return [] if inputs == outputs else [_pointwise(inputs, outputs)]
