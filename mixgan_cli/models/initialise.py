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


def zero_bias(std: float) -> Initialise:
    """Weights ~ N(0, std²), biases 0, as DCGAN and MGGAN."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.normal_(weight, std=std)
        nn.init.zeros_(bias)

    return fill


def truncated(std: float) -> Initialise:
    """Weights ~ N(0, std²) cut at two standard deviations, biases 0, as MGGAN's discriminator."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(bias)

    return fill


def he(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Weights ~ N(0, 2/inputs), biases 0, of any shape (He et al. 2015), as the HMoG author's toy networks."""
    nn.init.normal_(weight, std=math.sqrt(2 / inputs))
    nn.init.zeros_(bias)


def uniform(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Weights and biases ~ U(-1/√inputs, 1/√inputs), of any shape: torch's own, as MEGAN's released code."""
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)


def named(name: str, std: float) -> Initialise:
    """Return the initialisation a backbone's `init` names: hmog, radford, he or torch; `std` is of the first two."""
    return {"hmog": normal(std), "radford": zero_bias(std), "he": he, "torch": uniform}[name]


def apply(network: nn.Sequential, initialise: Initialise) -> nn.Sequential:
    """Initialise every convolution and dense layer of a network, and return it."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            assert layer.bias is not None
            initialise(layer.weight, layer.bias, layer.weight[0].numel())
    return network
