"""Backbones: the layers of generator and discriminator for samples of a given shape.

A backbone builds the generator as a list of stages, which experts can share or have separately, and the discriminator
without its head. A new backbone is a class with the members of `Backbone` and a YAML file in conf/model/backbone/.
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
"""Width of a layer [channels or units]."""
Norm = Literal["none", "batch", "batch_after", "layer"]
Init = Literal["hmog", "radford", "he", "torch", "torch_0.3"]


class Backbone(Protocol):
    """The interface of backbones."""

    hidden_size: int
    """H, the size of the hidden vector that the first stage returns."""
    hidden_shape: Shape
    """Its shape before it is flattened: (channels, height, width), or (H,)."""
    features: int
    """F, the size of the discriminator's features."""
    spectral_norm: bool
    """If true, the head has spectral norm, too."""
    initialise: Initialise
    """The initialisation of dense layers that experts add."""
    head_bias: bool
    """If true, heads have biases."""
    initialise_head: Initialise
    """The initialisation of heads."""
    feature_stage: int
    """The number of stages after which a gate reads the features of an expert."""

    def stages(self, latent_size: int) -> list[nn.Module]:
        """Build the generator, [B, Z] → samples [B, …], as a list of newly initialised stages."""

    def stage_size(self, stages: int) -> int:
        """Return the number of units in the output of the first `stages` stages."""

    def trunk(self) -> nn.Module:
        """Build the generator without its first stage: [B, H] → samples [B, …]."""

    def body(self) -> nn.Module:
        """Build the discriminator without its head: samples [N, …] → features [N, F]."""


def points(shape: Shape, name: str) -> int:
    """Return the number of coordinates of points. The backbone `name` accepts nothing else.

    Raises:
        ConfigError: the samples are images.
    """
    if len(shape) != 1:
        raise ConfigError(f"model/backbone={name} makes points, the data are images {shape}. Take model/backbone=dcgan")
    return shape[0]


def square_images(shape: Shape, name: str) -> tuple[int, int]:
    """Return the number of channels and the side [pixels] of square images. The backbone `name` accepts no others.

    Raises:
        ConfigError: the samples are points, or images that are not square.
    """
    if len(shape) != 3:
        raise ConfigError(f"model/backbone={name} makes images, the data are points {shape}. Take model/backbone=mlp")
    channels, height, width = shape
    if height != width:
        raise ConfigError(
            f"model/backbone={name} makes square images, the data are {height}×{width}. Crop them, or "
            "set data.size, which stretches them"
        )
    return channels, height


def add_spectral_norm(network: nn.Sequential) -> nn.Module:
    """Add spectral norm to every layer in place: divide its weight by the largest singular value (Miyato et al. 2018).

    The singular value is estimated by power iteration.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            with_spectral_norm(layer)
    return network
