"""Grouped convolutions against PyTorch's own, up to the second derivative, and the number of their operations."""

import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d
from torch.utils._python_dispatch import TorchDispatchMode

from mixgan_cli.models.convolution import GroupedConv2d, grouped_conv2d, grouped_conv_transpose2d

SETTINGS = [(1, 1, 3, 2), (1, 0, 1, 1), (2, 1, 4, 6), (1, 1, 3, 6)]  # stride, padding, side of the kernel, groups


def tensors(kernel, groups):
    x = torch.randn(2, 6, 6, 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(6, 6 // groups, kernel, kernel, dtype=torch.double, requires_grad=True)
    return x, weight


@pytest.mark.parametrize(("stride", "padding", "kernel", "groups"), SETTINGS)
@pytest.mark.parametrize(
    ("ours", "theirs"), [(grouped_conv2d, conv2d), (grouped_conv_transpose2d, conv_transpose2d)], ids=["C", "T"]
)
def test_values_and_derivatives_equal_pytorchs(ours, theirs, stride, padding, kernel, groups):
    inputs = tensors(kernel, groups)

    def derivatives(convolution):
        y = convolution(*inputs, stride=stride, padding=padding, groups=groups)
        first = torch.autograd.grad(y.pow(3).sum(), inputs, create_graph=True)
        penalty = sum(value.square().sum() for value in first)
        return y, *first, *torch.autograd.grad(penalty, inputs)

    for mine, other in zip(derivatives(ours), derivatives(theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


class Counted(TorchDispatchMode):
    """Count the operations that are convolutions or parts of their gradients."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += "convolution" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("groups", [1, 8])
def test_number_of_convolutions_does_not_depend_on_the_groups(groups):
    layer, images = GroupedConv2d(16, 16, 3, padding=1, groups=groups), torch.randn(2, 16, 5, 5, requires_grad=True)
    with Counted() as counted:
        (gradient,) = torch.autograd.grad(layer(images).square().sum(), images, create_graph=True)
        gradient.square().sum().backward()
    assert counted.found == 7  # C; T and W; of T: C and W; of C: T and W


def test_bias_is_added_and_learned():
    layer, images = GroupedConv2d(4, 4, 3, padding=1, groups=2), torch.randn(2, 4, 5, 5)
    expected = conv2d(images, layer.weight, layer.bias, padding=1, groups=2)
    torch.testing.assert_close(layer(images), expected)
    layer(images).sum().backward()
    assert layer.bias.grad.tolist() == [50.0] * 4


def test_autocast_computes_all_derivatives_in_bfloat16():
    layer, images = GroupedConv2d(8, 8, 3, padding=1, groups=2), torch.randn(2, 8, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(images)
    (gradient,) = torch.autograd.grad(y.float().square().sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert gradient.dtype == torch.float32 and layer.weight.grad.dtype == torch.float32
    exact = torch.autograd.grad(layer(images).square().sum(), images)[0]
    torch.testing.assert_close(gradient, exact, rtol=0.1, atol=0.1)
