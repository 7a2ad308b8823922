"""How a layer begins: the backbone decides, for its own layers and for the dense ones beside it."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

Initialise = Callable[[Tensor, Tensor, int], None]
"""Fills a weight and a bias in place; the last argument is the number of inputs."""


def normal(std: float) -> Initialise:
    """Weights and biases ~ N(0, std²), as the HMoG author's convolutional networks."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.normal_(weight, std=std)
        nn.init.normal_(bias, std=std)

    return fill


def he(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Weights ~ N(0, 2/inputs), biases 0 (He et al. 2015), as the HMoG author's toy networks."""
    nn.init.normal_(weight, std=math.sqrt(2 / inputs))
    nn.init.zeros_(bias)
