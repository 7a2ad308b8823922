"""Backbones: the layers of generator and discriminator, before it is said whose they are.

A backbone offers, for samples of a given shape: `stages`, the generator from z to the sample in pieces that experts may
have apart or share; `trunk`, the same after the first stage, from a hidden vector [B, H] of `hidden_size`; `body`, the
discriminator below its head, samples to `features`; how dense layers beside it begin (`initialise`) and heads
(`initialise_head`); and `spectral_norm` (of the head too). A new one is a class with these, and a YAML in
conf/model/backbone/.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import Field
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.layers import Initialise

Shape = tuple[int, ...]
Width = Annotated[int, Field(gt=0, le=2**13)]
"""Of a layer, in channels or units."""
Norm = Literal["none", "batch", "batch_after", "layer"]
Init = Literal["hmog", "radford", "he", "torch"]


class Backbone(Protocol):
    """What build.py and the experts ask of a backbone."""

    hidden_size: int
    features: int
    spectral_norm: bool
    initialise: Initialise
    initialise_head: Initialise
    feature_stage: int
    """After how many stages a gate may look at an expert's features."""

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Return the generator in pieces, [B, Z] → samples, freshly initialised."""

    def stage_size(self, stages: int) -> int:
        """Return how many units there are after so many stages."""

    def trunk(self) -> nn.Module:
        """Return the generator after its first stage: [B, H] → samples."""

    def body(self) -> nn.Module:
        """Return the discriminator without its head: samples → [N, features]."""


def square(shape: Shape, name: str) -> tuple[int, int]:
    """Return channels and pixels a side of square images, which the backbone of this name wants.

    Raises:
        ConfigError: the samples are points, or images that are not square.
    """
    if len(shape) != 3:
        raise ConfigError(f"model/backbone={name} makes images, the data are points {shape}. Take model/backbone=mlp")
    channels, height, width = shape
    if height != width:
        raise ConfigError(f"model/backbone={name} makes square images, not {height}×{width}. Crop them: data.crop")
    return channels, height


def spectrally_normalised(network: nn.Sequential) -> nn.Module:
    """Miyato et al. 2018: every weight divided by its largest singular value, by power iteration."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            with_spectral_norm(layer)
    return network
