"""Weight initialisation, and batch norm across processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import batch_norm, layer_norm
from torch.nn.modules.batchnorm import _BatchNorm

from mixgan_cli.runtime import distributed

Initialise = Callable[[Tensor, Tensor, int], None]
"""A function that fills a weight and a bias in place. Its last argument is the number of inputs of a unit."""


NormScale = Literal["one", "normal", "uniform"]
"""Initial scales of batch norm, see `initialise_scales`."""
Network = TypeVar("Network", bound=nn.Module)


def normal_all(std: float) -> Initialise:
    """Return the initialisation with weights and biases ~ N(0, std²): the HMoG author's convolutional networks."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.normal_(weight, std=std)
        nn.init.normal_(bias, std=std)

    return fill


def zero_bias(std: float) -> Initialise:
    """Return the initialisation with weights ~ N(0, std²) and biases 0: DCGAN and MGGAN."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.normal_(weight, std=std)
        nn.init.zeros_(bias)

    return fill


def truncated_normal(std: float) -> Initialise:
    """Return the initialisation with weights ~ N(0, std²) truncated at 2 std and biases 0: MGGAN's discriminator."""

    def fill(weight: Tensor, bias: Tensor, inputs: int) -> None:
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(bias)

    return fill


def he(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Fill weights of any shape ~ N(0, 2/inputs) and biases with 0 (He et al. 2015): the HMoG author's toy networks."""
    nn.init.normal_(weight, std=math.sqrt(2 / inputs))
    nn.init.zeros_(bias)


def uniform_fan_in(weight: Tensor, bias: Tensor, inputs: int) -> None:
    """Fill weights and biases of any shape ~ U(-1/√inputs, 1/√inputs): torch's default."""
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)


def scaled_normal(weight: Tensor, bias: Tensor | None, inputs: int, gain: float = 1.0) -> None:
    """Fill weights of any shape ~ N(0, gain²/inputs) and biases with 0: R3GAN (Huang et al. 2024)."""
    nn.init.normal_(weight, std=gain / math.sqrt(inputs))
    if bias is not None:
        nn.init.zeros_(bias)


def glorot_uniform(weight: Tensor, bias: Tensor | None, inputs: int, gain: float = 1.0) -> None:
    """Fill weights ~ U(±gain √(6/(inputs + outputs))) and biases with 0 (Glorot & Bengio 2010): SNGAN's ResNet.

    The weights are those of a layer [outputs, inputs, …], or of K dense experts [K, inputs, outputs].
    """
    is_layer = weight[0].numel() == inputs
    outputs = len(weight) * weight[0, 0].numel() if is_layer else weight.shape[-1]
    bound = gain * math.sqrt(6 / (inputs + outputs))
    nn.init.uniform_(weight, -bound, bound)
    if bias is not None:
        nn.init.zeros_(bias)


def get_initialiser(name: str, std: float) -> Initialise:
    """Return the initialisation that a backbone's `init` names: hmog, radford, he, torch or torch_0.3.

    `std` is the standard deviation of hmog and radford; the others ignore it. The two of torch differ in the number of
    inputs of transposed convolutions only, see `initialise_layers`.
    """
    torchs = {"torch": uniform_fan_in, "torch_0.3": uniform_fan_in}
    return {"hmog": normal_all(std), "radford": zero_bias(std), "he": he, **torchs}[name]


def initialise_layers(
    network: nn.Sequential, initialise: Initialise, transposed_inputs: Literal["outputs", "inputs"] = "outputs"
) -> nn.Sequential:
    """Initialise all convolutions and dense layers of a network in place, and return the network.

    `transposed_inputs` tells what counts as the number of inputs of a transposed convolution of in → out channels:
    outputs, out·k², as in torch today; inputs, in·k², as in torch 0.3.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            assert layer.bias is not None
            by_column = isinstance(layer, nn.ConvTranspose2d) and transposed_inputs == "inputs"
            initialise(layer.weight, layer.bias, (layer.weight[:, 0] if by_column else layer.weight[0]).numel())
    return network


def initialise_scales(network: Network, scales: NormScale, std: float = 0.0) -> Network:
    """Initialise the scales of all batch norms of a network in place, and return the network.

    Args:
        network: the network.
        scales: one: leave them at 1; normal: N(1, std²); uniform: U(0, 1), the default of torch before 1.2.
        std: the standard deviation of normal.
    """
    for layer in network.modules():
        if isinstance(layer, _BatchNorm) and scales == "normal":
            nn.init.normal_(layer.weight, mean=1.0, std=std)
        elif isinstance(layer, _BatchNorm) and scales == "uniform":
            nn.init.uniform_(layer.weight)
    return network


class _SyncBatchNorm(_BatchNorm):
    """Batch norm over the samples of all synchronised ranks: in training, they share mean and variance.

    torch.nn.SyncBatchNorm is not used because it runs on GPUs only and has no second derivative, which a gradient
    penalty needs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input [N, C, …]."""
        if not self.training or distributed.sync_size() == 1:
            return self._normalised(input)
        values, others = input.float() if input.dtype == torch.bfloat16 else input, [0, *range(2, input.dim())]
        mean_C = distributed.mean(values.mean(dim=others))
        centred = values - _per_channel(mean_C, input)
        variance_C = distributed.mean(centred.square().mean(dim=others))
        n = distributed.sync_size() * input.numel() / input.shape[1]
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            count_pass(self.num_batches_tracked)
            self.running_mean.lerp_(mean_C.to(self.running_mean), self.momentum)
            self.running_var.lerp_((variance_C * (n / (n - 1))).to(self.running_var), self.momentum)
        normalised = centred * _per_channel((variance_C + self.eps).rsqrt(), input)
        if self.weight is not None:
            normalised = normalised * _per_channel(self.weight, input)
        if self.bias is not None:
            normalised = normalised + _per_channel(self.bias, input)
        return normalised.to(input.dtype)

    def _normalised(self, input: Tensor) -> Tensor:
        """Do what torch's layer does, but count the pass as `passes_counted_together` says."""
        if _pending is None or not (self.training and self.track_running_stats) or torch.compiler.is_compiling():
            return super().forward(input)
        assert self.momentum is not None and self.num_batches_tracked is not None
        count_pass(self.num_batches_tracked)
        return batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum, self.eps
        )


_pending: dict[Tensor, int] | None = None
"""Inside `passes_counted_together`, the counters of batch norms and what is to be added."""


@contextmanager
def passes_counted_together() -> Iterator[None]:
    """Let all batch norms add the passes of the block to `num_batches_tracked` at its end, with one kernel."""
    global _pending
    _pending = {}
    try:
        yield
        if _pending:
            torch._foreach_add_(list(_pending), list(_pending.values()))
    finally:
        _pending = None


def count_pass(counter: Tensor) -> None:
    """Count a pass of a batch norm in its counter, a scalar, now or at the end of `passes_counted_together`."""
    if _pending is None:
        counter.add_(1)
    else:
        _pending[counter] = _pending.get(counter, 0) + 1


class BatchNorm1d(_SyncBatchNorm, nn.BatchNorm1d):
    """Batch norm of vectors [N, C]."""


class BatchNorm2d(_SyncBatchNorm, nn.BatchNorm2d):
    """Batch norm of feature maps [N, C, H, W]."""


BatchNorm = TypeVar("BatchNorm", BatchNorm1d, BatchNorm2d)


class LayerNorm(nn.LayerNorm):
    """Layer norm that stays in bfloat16 if its input is. Autocast alone would convert the feature maps to float32.

    Mean and variance are computed in float32 in both cases.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input [N, C, …], of the same type."""
        if input.dtype != torch.bfloat16:
            return super().forward(input)
        scale, offset = self.weight.to(input.dtype), self.bias.to(input.dtype)
        with torch.autocast(input.device.type, enabled=False):
            return layer_norm(input, self.normalized_shape, scale, offset, self.eps)


def image_norm(name: Literal["none", "batch", "layer"], channels: int, side: int) -> list[nn.Module]:
    """Return the normalisation layer of feature maps [N, channels, side, side] as a list, empty for `none`.

    `side` is in pixels.
    """
    if name == "none":
        return []
    return [BatchNorm2d(channels) if name == "batch" else LayerNorm([channels, side, side])]


def without_offset(norm: BatchNorm) -> BatchNorm:
    """Remove the learned offset of a batch norm, against dying ReLUs (MGGAN, section 5.2). Its scale stays."""
    norm.register_parameter("bias", None)
    return norm


def _per_channel(values_C: Tensor, like: Tensor) -> Tensor:
    return values_C.view(1, -1, *[1] * (like.dim() - 2))


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let all batch norms of a network in eval mode use the statistics of each batch. Their averages do not change."""
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    try:
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True


@torch.no_grad()
def forward_frozen_bn(network: nn.Module, *arguments: Any) -> Any:
    """Return network(*arguments) in its current mode, without updating the running statistics of batch norm."""
    state = {name: value.clone() for name, value in network.named_buffers()}
    return functional_call(network, state, arguments)


class LossWeights(nn.Module):
    r"""Weights w = softmax(logits) [n], equal at first, and a penalty that is smallest if they are equal.

    Args:
        n: number of weights.
        evenness: weight of the penalty R = -1/n \sum_i ln(w_i + 1e-6), as in the code of MIX+GAN; 0.1 there.
    """

    def __init__(self, n: int, evenness: float) -> None:
        super().__init__()
        self.evenness = evenness
        self.logits_N = nn.Parameter(torch.zeros(n))

    def forward(self) -> Tensor:
        """Return the weights [n], which sum to 1."""
        return self.logits_N.softmax(dim=0)

    def penalty(self) -> Tensor:
        """Return evenness × R, a scalar."""
        return -self.evenness * (self() + 1e-6).log().mean()
