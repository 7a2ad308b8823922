"""Convolutions whose second derivative is made of convolutions, for penalties on a gradient.

PyTorch differentiates the gradient of a grouped convolution group by group: for R3GAN's discriminator these are eight
thousand small convolutions an iteration. Here each derivative of any order is one convolution of all groups. The idea
is that of conv2d_gradfix in the code of StyleGAN2-ADA (Karras et al. 2020): a convolution C(x, w), its adjoint T(y, w)
and the gradient of its weight W(x, y) have derivatives that are C, T and W again. The gradient of the weight is also
computed where only that of x is needed, since PyTorch does not tell a function of ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d


class GroupedConv2d(nn.Conv2d):
    """A convolution in groups with stride 1 or 2, zero padding and a bias, which is cheap to differentiate twice."""

    def forward(self, input: Tensor) -> Tensor:
        """Return feature maps [N, outputs, S, S]."""
        return grouped_conv2d(input, self.weight, int(self.stride[0]), int(self.padding[0]), self.groups) + (
            0 if self.bias is None else self.bias.view(-1, 1, 1)
        )


def grouped_conv2d(x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """Return C(x, w), [N, outputs, S, S], of maps [N, inputs, S, S] and a weight [outputs, inputs/groups, k, k].

    Under autocast it is computed in the lower precision, with all its derivatives; the result has the type of x.
    """
    y: Tensor = _Convolution.apply(_autocast(x), _autocast(weight), stride, padding, groups)
    return y.to(x.dtype)


def grouped_conv_transpose2d(y: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """Return T(y, w), [N, inputs, S, S], the adjoint of `grouped_conv2d` with the same weight."""
    x: Tensor = _Adjoint.apply(_autocast(y), _autocast(weight), stride, padding, groups)
    return x.to(y.dtype)


def _autocast(values: Tensor) -> Tensor:
    kind = values.device.type
    return values.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else values.to(values.dtype)


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, padding, groups
        return conv2d(x, weight, stride=stride, padding=padding, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x = _Adjoint.apply(gradient, weight, *ctx.settings) if ctx.needs_input_grad[0] else None
        of_weight = _OfWeight.apply(x, gradient, weight, *ctx.settings) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None, None


class _Adjoint(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        ctx.save_for_backward(y, weight)
        ctx.settings = stride, padding, groups
        # a side that is even stays even: one more row and column where the convolution leaves them out
        rest = (weight.shape[2] - 2 * padding) % stride
        return conv_transpose2d(y, weight, stride=stride, padding=padding, output_padding=rest, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        y, weight = ctx.saved_tensors
        of_y = _Convolution.apply(gradient, weight, *ctx.settings) if ctx.needs_input_grad[0] else None
        of_weight = _OfWeight.apply(gradient, y, weight, *ctx.settings) if ctx.needs_input_grad[1] else None
        return of_y, of_weight, None, None, None


class _OfWeight(Function):
    """W(x, y): the gradient of <C(x, w), y> with respect to w, of which only the shape is needed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.settings = stride, padding, groups
        steps = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
        gradient: Tensor = torch.ops.aten.convolution_backward(y, x, weight, None, *steps, [False, True, False])[1]
        return gradient

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, y = ctx.saved_tensors
        of_x = _Adjoint.apply(y, gradient, *ctx.settings) if ctx.needs_input_grad[0] else None
        of_y = _Convolution.apply(x, gradient, *ctx.settings) if ctx.needs_input_grad[1] else None
        return of_x, of_y, None, None, None, None
