import pytest
import torch

from mixgan_cli.runtime import measure
from mixgan_cli.runtime.measure import Ceilings, OpCounter, time_calls

BEST = Ceilings({torch.float32: 100.0, torch.bfloat16: 1000.0}, bandwidth=10.0)
F32 = 4


def counted(work):
    with OpCounter(BEST.floor) as count:
        work()
    return count


def test_counts_a_product_and_its_gradients():
    """y = x W: 2 B I O forward and the same for each of the two gradients. Factors are read, results are written."""
    x, w = torch.randn(8, 16, requires_grad=True), torch.randn(16, 4, requires_grad=True)
    forward = counted(lambda: x.detach() @ w.detach())
    assert forward.flops == {torch.float32: 2 * 8 * 16 * 4} and forward.operations == 1
    assert forward.bytes == F32 * (8 * 16 + 16 * 4 + 8 * 4)
    assert forward.seconds == pytest.approx(max(forward.bytes / 10, 1024 / 100))
    y = x @ w
    assert sum(counted(lambda: y.backward(torch.ones_like(y))).flops.values()) == 2 * 2 * 8 * 16 * 4


def test_counts_a_convolution():
    """2 N H' W' C' C k² forward."""
    images, kernels = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 4, 4)
    forward = counted(lambda: torch.conv2d(images, kernels, stride=2, padding=1))
    assert sum(forward.flops.values()) == 2 * 2 * 4 * 4 * 5 * 3 * 4 * 4


@pytest.mark.parametrize("groups", [1, 4])
def test_counts_the_gradients_of_a_grouped_convolution(groups):
    """The output, the gradient of the input and that of the weight cost the same."""
    images = torch.ones(2, 8, 6, 6, requires_grad=True)
    layer = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False)
    with OpCounter(lambda dtype, flops, moved: 0.0) as counted:
        torch.autograd.grad(layer(images), [images, layer.weight], torch.ones(2, 8, 6, 6))
    assert sum(counted.flops.values()) == 3 * 2 * (2 * 36 * 8) * (8 // groups * 9)


def test_views_are_free_and_in_place_operations_count():
    x, y = torch.randn(6, 5), torch.randn(6, 5)
    assert counted(lambda: x.view(5, 6).transpose(0, 1)[1:]).bytes == 0
    assert counted(lambda: x.add_(y)).bytes == F32 * 3 * 30
    assert counted(lambda: torch._foreach_add_([x], [y])).bytes == F32 * 3 * 30
    assert counted(lambda: x + y[:, :1].expand(6, 5)).bytes <= F32 * 3 * 30


def test_each_dtype_has_its_own_peak_rate():
    half = torch.randn(4, 4, dtype=torch.bfloat16)
    count = counted(lambda: half @ half)
    assert count.flops == {torch.bfloat16: 128} and count.seconds == pytest.approx(2 * 3 * 16 / 10)
    assert BEST.floor(torch.bfloat16, 10_000, 0) == 10 and BEST.floor(torch.float64, 10_000, 0) == 100


def test_time_calls_repeats_a_short_call(monkeypatch):
    calls = []
    monkeypatch.setattr(measure, "MIN_SECONDS", 0.01)
    timing = time_calls(lambda: calls.append(torch.ones(100, 100) @ torch.ones(100, 100)), torch.device("cpu"))
    assert 0 < timing.low <= timing.median <= timing.high and len(calls) > 100
