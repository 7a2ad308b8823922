"""The DCGAN backbone: 4×4 convolutions with stride 2 for images."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import NonNegativeFloat
from torch import nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Init, Norm, Shape, Width, add_spectral_norm, square_images
from mixgan_cli.models.layers import NormScale, get_initialiser, image_norm, initialise_layers, initialise_scales


class DCGAN:
    """4×4 convolutions with stride 2 and padding 1, between the image and 4×4 pixels.

    With images of S×S pixels and 64 channels the hidden vector is [8 S, 4, 4]: 256×4×4 at S = 32, 512×4×4 at S = 64.
    The networks of HMoG, MEGAN and Radford et al. differ in normalisation and initialisation only.

    Args:
        shape: (C, S, S).
        channels: number of channels next to the image, doubled each time the resolution is halved.
        generator_norm: normalisation of all layers of the generator except the last. none; batch: before the ReLU;
            batch_after: after the ReLU (HMoG author).
        discriminator_norm: normalisation of all layers of the discriminator, but see `first_norm`. The MADGAN and MGAN
            of the HMoG author have batch_after.
        first_norm: if true, also normalise the first convolution of the discriminator (HMoG, but not Radford et al.).
        spectral_norm: if true, apply spectral norm to the discriminator, including the head (Miyato et al. 2018).
        init: hmog: weights and biases ~ N(0, init_std²); radford: weights ~ N(0, init_std²), biases 0; he: He
            initialisation; torch: torch's default; torch_0.3: that of torch 0.3 (MEGAN's released code), where a
            transposed convolution of in → out channels is ~ U(±1/√(in k²)) instead of U(±1/√(out k²)).
        init_std: the standard deviation of hmog, radford and normal scales.
        norm_scale: initial scales of batch norm: one: 1; normal: N(1, init_std²) (Radford et al.); uniform: U(0, 1),
            torch's default before 1.2 (the code of MEGAN and of the HMoG author).

    Raises:
        ConfigError: the samples are not square images of 8, 16, 32, 64 or 128 pixels a side.
    """

    head_bias = True
    feature_stage = 2  # MEGAN's gate reads f_i after the second transposed convolution, at 8×8 pixels

    def __init__(
        self,
        shape: Shape,
        channels: Width,
        generator_norm: Literal["none", "batch", "batch_after"],
        discriminator_norm: Norm,
        first_norm: bool,
        spectral_norm: bool,
        init: Init,
        init_std: NonNegativeFloat,
        norm_scale: NormScale = "one",  # weights of older generator files, which lack this key, are loaded
    ) -> None:
        image_channels, height = square_images(shape, "dcgan")
        if height & (height - 1) or not 8 <= height <= 128:
            raise ConfigError(f"data.size={height}: model/backbone=dcgan takes 8, 16, 32, 64 or 128 pixels a side")
        halvings = (height // 4).bit_length() - 1
        self.widths = [image_channels, *(channels * 2**level for level in range(halvings))]
        self.side = height
        self.generator_norm, self.discriminator_norm = generator_norm, discriminator_norm
        self.first_norm = first_norm
        self.spectral_norm = spectral_norm
        self.initialise = self.initialise_head = get_initialiser(init, init_std)
        self.init, self.init_std, self.norm_scale = init, init_std, norm_scale
        self.hidden_shape = (self.widths[-1], 4, 4)
        self.hidden_size = self.features = self.widths[-1] * 4 * 4

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages: z to 4×4 pixels, then one stage per doubling of the resolution."""
        point = nn.Sequential(
            nn.Unflatten(1, (latent_size, 1, 1)),
            nn.ConvTranspose2d(latent_size, self.widths[-1], kernel_size=4),
            *self._activated(nn.ReLU(), self.generator_norm, self.widths[-1], 4),
        )
        return [self._initialised(point), *self._doublings()]

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        return self.widths[-stages] * (4 * 2 ** (stages - 1)) ** 2

    def trunk(self) -> nn.Module:
        """Build the generator without its first stage: [B, H] → [B, C, S, S] in [-1, 1].

        There is no nonlinearity and no normalisation between a mixture and the trunk, as in HMoG's code.
        """
        return nn.Sequential(nn.Unflatten(1, self.hidden_shape), *self._doublings())

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, C, S, S] → features [N, F]."""
        layers: list[nn.Module] = []
        side = self.side
        for inputs, outputs in pairwise(self.widths):
            side //= 2
            norm: Norm = self.discriminator_norm if layers or self.first_norm else "none"
            layers.append(nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1))
            layers += self._activated(nn.LeakyReLU(0.2), norm, outputs, side)
        body = self._initialised(nn.Sequential(*layers, nn.Flatten()))
        return add_spectral_norm(body) if self.spectral_norm else body

    def _doublings(self) -> list[nn.Module]:
        stages, side = [], 4
        for inputs, outputs in pairwise(reversed(self.widths)):
            side *= 2
            convolution = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
            if side == self.side:
                stages.append(nn.Sequential(convolution, nn.Tanh()))
            else:
                stages.append(
                    nn.Sequential(convolution, *self._activated(nn.ReLU(), self.generator_norm, outputs, side))
                )
        return [self._initialised(stage) for stage in stages]

    def _activated(self, activation: nn.Module, norm: Norm, channels: int, side: int) -> list[nn.Module]:
        if norm == "batch_after":
            return [activation, *image_norm("batch", channels, side)]
        return [*image_norm(norm, channels, side), activation]

    def _initialised(self, network: nn.Sequential) -> nn.Sequential:
        initialise_layers(network, self.initialise, "inputs" if self.init == "torch_0.3" else "outputs")
        return initialise_scales(network, self.norm_scale, self.init_std)
