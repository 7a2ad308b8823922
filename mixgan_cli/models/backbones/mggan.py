"""MGGAN's networks for images: 5×5 convolutions with TensorFlow's SAME alignment (Hoang et al. 2017 and its code)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn.functional import pad

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Shape, Width, spectrally_normalised, square
from mixgan_cli.models.layers import (
    BatchNorm1d,
    BatchNorm2d,
    apply,
    image_norm,
    truncated_normal,
    without_offset,
    zero_bias,
)


class TFPaddedDCGAN:
    """`layers` convolutions of 5×5 with stride 2 in each network, SAME alignment, batch norm in all but the last.

    With 3 layers and 128 channels: 512×4×4 → 256×8×8 → 128×16×16 → the image at 32 px. 48 px begins at 6×6 with 3
    layers, at 3×3 with 4. In the generator batch norm has no offset, which the paper fixes at zero against dying ReLUs;
    `first_offset` is of whole experts' first layer alone (the released code learns it there).

    Args:
        shape: (C, S, S).
        channels: next to the image, doubled at every halving.
        layers: of each network.
        first_offset: whether the first layer's batch norm learns an offset, where experts are whole networks.
        spectral_norm: of the discriminator's layers, the head's too; the paper has none.
        init_std: of weights, 0.02; the discriminator's are cut at two standard deviations.
        head_std: of the heads' weights: 0.02 as the text has all weights, 0.01 in the released code.
        discriminator_norm: of all the discriminator's layers: batch; none or layer, for a gradient penalty.

    Raises:
        ConfigError: the samples are not square images whose side 2^layers divides.
    """

    feature_stage = 2

    def __init__(
        self,
        shape: Shape,
        channels: Width,
        layers: Annotated[int, Field(le=10)],
        first_offset: bool,
        spectral_norm: bool,
        init_std: NonNegativeFloat,
        head_std: NonNegativeFloat,
        discriminator_norm: Literal["none", "batch", "layer"] = "batch",  # as in files of generators without this key
    ) -> None:
        image_channels, side = square(shape, "mggan")
        if layers < 1 or side % 2**layers:
            raise ConfigError(
                f"data.size={side}: {layers} layers halve it {layers} times; take a multiple of {2 ** max(layers, 1)}, "
                "or other model.backbone.layers"
            )
        self.widths = [image_channels, *(channels * 2**level for level in range(layers))]
        self.start = side // 2**layers
        self.first_offset, self.spectral_norm, self.init_std = first_offset, spectral_norm, init_std
        self.discriminator_norm, self.side = discriminator_norm, side
        self.initialise, self.initialise_head = zero_bias(init_std), zero_bias(head_std)
        self.hidden_size = self.features = self.widths[-1] * self.start**2

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Return the generator in pieces: a dense layer to the first pixels, then a doubling each."""
        dense, norm = nn.Linear(latent_size, self.hidden_size), BatchNorm1d(self.hidden_size)
        first = nn.Sequential(dense, norm if self.first_offset else without_offset(norm), nn.ReLU())
        return [nn.Sequential(*apply(first, self.initialise), self._pixels()), *self._doublings()]

    def stage_size(self, stages: int) -> int:
        """Return how many units there are after so many stages."""
        return self.widths[-stages] * (self.start * 2 ** (stages - 1)) ** 2

    def trunk(self) -> nn.Module:
        """Return the generator after its first stage: [B, H] → [B, C, S, S] in [-1, 1]."""
        return nn.Sequential(self._pixels(), *self._doublings())

    def body(self) -> nn.Module:
        """Return the discriminator without its head: [N, C, S, S] → [N, features]."""
        layers: list[nn.Module] = []
        side = self.side
        for inputs, outputs in pairwise(self.widths):
            side //= 2
            norm = image_norm(self.discriminator_norm, outputs, side)
            layers += [TFPaddedConv2d(inputs, outputs), *norm, nn.LeakyReLU(0.2)]
        body = apply(nn.Sequential(*layers, nn.Flatten()), truncated_normal(self.init_std))
        return spectrally_normalised(body) if self.spectral_norm else body

    def _pixels(self) -> nn.Module:
        return nn.Unflatten(1, (self.widths[-1], self.start, self.start))

    def _doublings(self) -> list[nn.Module]:
        stages = [
            nn.Sequential(TFPaddedConvTranspose2d(inputs, outputs), without_offset(BatchNorm2d(outputs)), nn.ReLU())
            for inputs, outputs in pairwise(self.widths[:0:-1])
        ]
        image = nn.Sequential(TFPaddedConvTranspose2d(self.widths[1], self.widths[0]), nn.Tanh())
        return [apply(stage, self.initialise) for stage in (*stages, image)]


class TFPaddedConv2d(nn.Conv2d):
    """5×5, stride 2, aligned as TensorFlow's SAME on even sides: one pixel of padding before, two after."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=5, stride=2)

    def forward(self, input: Tensor) -> Tensor:
        """Return [N, outputs, S/2, S/2]."""
        return super().forward(pad(input, (1, 2, 1, 2)))


class TFPaddedConvTranspose2d(nn.ConvTranspose2d):
    """The transpose of `TFPaddedConv2d`: 5×5, stride 2, the last row and column cut off after one pixel of padding."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=5, stride=2, padding=1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return [N, outputs, 2 S, 2 S]."""
        return super().forward(input)[..., :-1, :-1]
