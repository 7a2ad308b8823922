"""Backbones: the part of the generator that all experts share (trunk) and the discriminator below its head (body).

A backbone offers, for samples of a given shape, `hidden_size` (what the experts give), `trunk` (hidden [B, H] to
samples), `features` (what the head takes), `body` (samples to features), `initialise` (of a dense layer beside it) and
`spectral_norm` (of the head too). A new one is a class with these, and a YAML in conf/model/backbone/.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.initialise import he, normal

Shape = tuple[int, ...]


class DCGAN:
    """Convolutions of 4×4 with stride 2 and padding 1 between the image and 4×4 pixels (HMoG thesis, tables).

    For images of S pixels a side the hidden vector is [8 S, 4, 4]: 256×4×4 at S = 32, 512×4×4 at S = 64. Between
    mixture and trunk there is neither a nonlinearity nor a normalisation, as in the HMoG author's code. Weights and
    biases of every convolution ~ N(0, init_std²).

    Raises:
        ConfigError: the samples are not square images with a power of two from 8 to 128 pixels a side.
    """

    def __init__(
        self,
        shape: Shape,
        channels: int,
        generator_norm: Literal["none", "batch"],
        discriminator_norm: Literal["none", "batch", "layer"],
        spectral_norm: bool,
        init_std: float,
    ) -> None:
        if len(shape) != 3:
            raise ConfigError(
                f"model/backbone=dcgan makes images, the data are points {shape}. Take model/backbone=mlp"
            )
        image_channels, height, width = shape
        if height != width or height & (height - 1) or not 8 <= height <= 128:
            raise ConfigError(
                f"data.size={height}: model/backbone=dcgan takes 8, 16, 32, 64 or 128 pixels a side"
                + (f", and square images, not {height}×{width}" if height != width else "")
            )
        halvings = (height // 4).bit_length() - 1
        self.widths = [image_channels, *(channels * 2**level for level in range(halvings))]
        self.side = height
        self.generator_norm, self.discriminator_norm = generator_norm, discriminator_norm
        self.spectral_norm, self.initialise = spectral_norm, normal(init_std)
        self.hidden_size = self.features = self.widths[-1] * 4 * 4

    def trunk(self) -> nn.Module:
        """Return the shared generator: [B, H] → [B, C, S, S] in [-1, 1]."""
        layers: list[nn.Module] = [nn.Unflatten(1, (self.widths[-1], 4, 4))]
        for inputs, outputs in pairwise(reversed(self.widths)):
            if len(layers) > 1:
                layers += [nn.BatchNorm2d(inputs)] if self.generator_norm == "batch" else []
                layers.append(nn.ReLU())
            layers.append(nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1))
        return self._initialised(nn.Sequential(*layers, nn.Tanh()))

    def body(self) -> nn.Module:
        """Return the discriminator without its head: [N, C, S, S] → [N, features]."""
        layers: list[nn.Module] = []
        side = self.side
        for inputs, outputs in pairwise(self.widths):
            side //= 2
            convolution = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
            layers += [convolution, *self._norm(outputs, side), nn.LeakyReLU(0.2)]
        body = self._initialised(nn.Sequential(*layers, nn.Flatten()))
        return _spectrally_normalised(body) if self.spectral_norm else body

    def _norm(self, channels: int, side: int) -> list[nn.Module]:
        if self.discriminator_norm == "layer":
            return [nn.LayerNorm([channels, side, side])]
        return [nn.BatchNorm2d(channels)] if self.discriminator_norm == "batch" else []

    def _initialised(self, network: nn.Sequential) -> nn.Sequential:
        for layer in network:
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                assert layer.bias is not None
                self.initialise(layer.weight, layer.bias, layer.weight[0].numel())
        return network


class MLP:
    """Fully connected layers with ReLU for points [D] (HMoG thesis, toy networks). He initialisation, biases 0.

    `generator_widths` begins with the experts' output; empty, the experts give the point itself (the paper's toy).
    """

    def __init__(
        self, shape: Shape, generator_widths: Sequence[int], discriminator_widths: Sequence[int], spectral_norm: bool
    ) -> None:
        if len(shape) != 1:
            raise ConfigError(
                f"model/backbone=mlp makes points, the data are images {shape}. Take model/backbone=dcgan"
            )
        if not discriminator_widths:
            raise ConfigError("model.backbone.discriminator_widths=[]: the discriminator needs a hidden layer")
        self.generator_widths = [*generator_widths, *shape]
        self.discriminator_widths = [*shape, *discriminator_widths]
        self.spectral_norm, self.initialise = spectral_norm, he
        self.hidden_size = self.generator_widths[0]
        self.features = self.discriminator_widths[-1]

    def trunk(self) -> nn.Module:
        """Return the shared generator: [B, H] → [B, D]."""
        layers = _dense(self.generator_widths)
        return nn.Sequential(*layers[:-1])  # the point itself has no ReLU

    def body(self) -> nn.Module:
        """Return the discriminator without its head: [N, D] → [N, features]."""
        body = nn.Sequential(*_dense(self.discriminator_widths))
        return _spectrally_normalised(body) if self.spectral_norm else body


def _dense(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = nn.Linear(inputs, outputs)
        he(linear.weight, linear.bias, inputs)
        layers += [linear, nn.ReLU()]
    return layers


def _spectrally_normalised(network: nn.Sequential) -> nn.Module:
    """Miyato et al. 2018: every weight divided by its largest singular value, by power iteration."""
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            with_spectral_norm(layer)
    return network
