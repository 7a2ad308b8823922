"""MGGAN's networks for images: 5×5 convolutions with TensorFlow's SAME padding (Hoang et al. 2017, released code)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn.functional import pad

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.base import Shape, Width, add_spectral_norm, square_images
from mixgan_cli.models.layers import (
    BatchNorm1d,
    BatchNorm2d,
    image_norm,
    initialise_layers,
    truncated_normal,
    without_offset,
    zero_bias,
)


class TFPaddedDCGAN:
    """5×5 convolutions with stride 2 and TensorFlow's SAME padding, with batch norm in all layers except the last.

    With 3 layers and 128 channels the generator is 512×4×4 → 256×8×8 → 128×16×16 → the image of 32 pixels. Images of 48
    pixels start at 6×6 with 3 layers, at 3×3 with 4. In the generator batch norm has no offset: the paper fixes it at
    zero, against dying ReLUs.

    Args:
        shape: (C, S, S).
        channels: number of channels next to the image, doubled each time the resolution is halved.
        layers: number of layers of each network.
        first_offset: if true, the first batch norm of experts that are whole networks learns an offset (released code).
        spectral_norm: if true, apply spectral norm to the discriminator, including the head; the paper has none.
        init_std: standard deviation of the initial weights; the discriminator's are truncated at 2 init_std.
        head_std: standard deviation of the heads' initial weights: 0.02 in the text, 0.01 in the released code.
        discriminator_norm: normalisation of all layers of the discriminator: batch; none or layer for a gradient
            penalty.

    Raises:
        ConfigError: the samples are not square images with a side divisible by 2^layers.
    """

    head_bias = True
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
        discriminator_norm: Literal[
            "none", "batch", "layer"
        ] = "batch",  # the value of older generator files, which lack this key
    ) -> None:
        image_channels, side = square_images(shape, "mggan")
        if layers < 1 or side % 2**layers:
            raise ConfigError(
                f"data.size={side}: model.backbone.layers={layers} halves it {layers} times. Take a multiple of "
                f"{2 ** max(layers, 1)}, or other model.backbone.layers"
            )
        self.widths = [image_channels, *(channels * 2**level for level in range(layers))]
        self.start = side // 2**layers
        self.first_offset, self.spectral_norm, self.init_std = first_offset, spectral_norm, init_std
        self.discriminator_norm, self.side = discriminator_norm, side
        self.initialise, self.initialise_head = zero_bias(init_std), zero_bias(head_std)
        self.hidden_shape = (self.widths[-1], self.start, self.start)
        self.hidden_size = self.features = self.widths[-1] * self.start**2

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator as a list of stages: a dense layer, then one stage per doubling of the resolution."""
        dense, norm = nn.Linear(latent_size, self.hidden_size), BatchNorm1d(self.hidden_size)
        first = nn.Sequential(dense, norm if self.first_offset else without_offset(norm), nn.ReLU())
        return [nn.Sequential(*initialise_layers(first, self.initialise), self._pixels()), *self._doublings()]

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""
        return self.widths[-stages] * (self.start * 2 ** (stages - 1)) ** 2

    def trunk(self) -> nn.Module:
        """Build the generator without its first stage: [B, H] → [B, C, S, S] in [-1, 1]."""
        return nn.Sequential(self._pixels(), *self._doublings())

    def body(self) -> nn.Module:
        """Build the discriminator without its head: [N, C, S, S] → features [N, F]."""
        layers: list[nn.Module] = []
        side = self.side
        for inputs, outputs in pairwise(self.widths):
            side //= 2
            norm = image_norm(self.discriminator_norm, outputs, side)
            layers += [TFPaddedConv2d(inputs, outputs), *norm, nn.LeakyReLU(0.2)]
        body = initialise_layers(nn.Sequential(*layers, nn.Flatten()), truncated_normal(self.init_std))
        return add_spectral_norm(body) if self.spectral_norm else body

    def _pixels(self) -> nn.Module:
        return nn.Unflatten(1, self.hidden_shape)

    def _doublings(self) -> list[nn.Module]:
        stages = [
            nn.Sequential(TFPaddedConvTranspose2d(inputs, outputs), without_offset(BatchNorm2d(outputs)), nn.ReLU())
            for inputs, outputs in pairwise(self.widths[:0:-1])
        ]
        image = nn.Sequential(TFPaddedConvTranspose2d(self.widths[1], self.widths[0]), nn.Tanh())
        return [initialise_layers(stage, self.initialise) for stage in (*stages, image)]


class TFPaddedConv2d(nn.Conv2d):
    """A convolution with stride 2 and TensorFlow's SAME padding: for 5×5 and an even side 1 pixel before, 2 after.

    Args:
        inputs: number of channels.
        outputs: number of channels.
        size: side of the kernel [pixels], an odd number.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 5) -> None:
        super().__init__(inputs, outputs, kernel_size=size, stride=2)

    def forward(self, input: Tensor) -> Tensor:
        """Return feature maps [N, outputs, S/2, S/2]; the half of an odd side is rounded up."""
        before, after = _same_padding(self.kernel_size[0], input.shape[-1])
        return super().forward(pad(input, (before, after, before, after)))


class TFPaddedConvTranspose2d(nn.ConvTranspose2d):
    """The transpose of `TFPaddedConv2d`. For an even side its last row and column are cut off.

    Args:
        inputs: number of channels.
        outputs: number of channels.
        size: side of the kernel [pixels], an odd number.
        odd: if true, the side becomes 2 S - 1, not 2 S [pixels].
    """

    def __init__(self, inputs: int, outputs: int, size: int = 5, odd: bool = False) -> None:
        super().__init__(inputs, outputs, kernel_size=size, stride=2, padding=_same_padding(size, int(odd))[0])
        self.odd = odd

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return feature maps [N, outputs, 2 S, 2 S], or [N, outputs, 2 S - 1, 2 S - 1]."""
        maps = super().forward(input)
        return maps if self.odd else maps[..., :-1, :-1]


def _same_padding(size: int, side: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of a convolution with stride 2, before and after an axis [pixels].

    Args:
        size: side of the kernel [pixels].
        side: side of the input [pixels].
    """
    total = size - 2 + side % 2
    return total // 2, total - total // 2
