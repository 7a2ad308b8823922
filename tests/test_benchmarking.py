"""What `mixgan bench` counts and tells."""

import json
import math

import pytest
import torch

from mixgan_cli.runtime.measure import Ceilings, Counted, timed
from tests.conftest import TINY

BEST = Ceilings({torch.float32: 100.0, torch.bfloat16: 1000.0}, bandwidth=10.0)
F32 = 4


def counted(work):
    with Counted(BEST.floor) as count:
        work()
    return count


def test_flops_and_bytes_of_a_product_and_its_gradients():
    """y = x W: 2 B I O forward, and as many for each of the two gradients; each factor read and each result written."""
    x, w = torch.randn(8, 16, requires_grad=True), torch.randn(16, 4, requires_grad=True)
    forward = counted(lambda: x.detach() @ w.detach())
    assert forward.flops == {torch.float32: 2 * 8 * 16 * 4} and forward.operations == 1
    assert forward.bytes == F32 * (8 * 16 + 16 * 4 + 8 * 4)
    assert forward.seconds == pytest.approx(max(forward.bytes / 10, 1024 / 100))
    y = x @ w
    assert sum(counted(lambda: y.backward(torch.ones_like(y))).flops.values()) == 2 * 2 * 8 * 16 * 4


def test_flops_of_a_convolution_by_the_formula():
    """2 N H' W' C' C k² forward."""
    images, kernels = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 4, 4)
    forward = counted(lambda: torch.conv2d(images, kernels, stride=2, padding=1))
    assert sum(forward.flops.values()) == 2 * 2 * 4 * 4 * 5 * 3 * 4 * 4


def test_views_are_free_and_what_is_changed_in_place_is_read_and_written():
    x, y = torch.randn(6, 5), torch.randn(6, 5)
    assert counted(lambda: x.view(5, 6).transpose(0, 1)[1:]).bytes == 0
    assert counted(lambda: x.add_(y)).bytes == F32 * 3 * 30
    assert counted(lambda: torch._foreach_add_([x], [y])).bytes == F32 * 3 * 30
    assert counted(lambda: x + y[:, :1].expand(6, 5)).bytes <= F32 * 3 * 30


def test_each_type_has_a_ceiling_of_its_own():
    half = torch.randn(4, 4, dtype=torch.bfloat16)
    count = counted(lambda: half @ half)
    assert count.flops == {torch.bfloat16: 128} and count.seconds == pytest.approx(2 * 3 * 16 / 10)
    assert BEST.floor(torch.bfloat16, 10_000, 0) == 10 and BEST.floor(torch.float64, 10_000, 0) == 100


def test_a_timing_counts_each_call():
    calls = []
    timing = timed(lambda: calls.append(torch.ones(100, 100) @ torch.ones(100, 100)), torch.device("cpu"))
    assert 0 < timing.low <= timing.median <= timing.high and len(calls) > 100


def test_bench_measures_what_train_would_run(mixgan):
    settings = ["model=mog,mggan", "model.k=2", "objective.d_steps=3"]
    outcome = mixgan("bench", "-m", *TINY, *settings)
    assert outcome.code == 0, outcome.err
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert [row["model"] for row in rows] == ["mog", "mggan"]
    for row in rows:
        assert row["k"] == 2 and row["real"] == 8 and row["capture"] is False and row["precision"] == "float32"
        assert row["img_per_second"] == pytest.approx(3 * 8 / row["ms"] * 1e3)
        assert 0 < row["ceiling_share"] < 1 and row["floor_ms"] < row["ms"] and row["gflop"] > 0
        assert math.isclose(row["tflop_per_second"], row["gflop"] / row["ms"], rel_tol=1e-6)
    assert outcome.err.count("| model | K |") == 1 and outcome.err.count("| mggan | 2 | 8 |") == 1


def test_bench_of_one_configuration_and_of_a_wrong_one(mixgan, tmp_path):
    outcome = mixgan("bench", "data=ring", "model=gan", "hardware=cpu", "hardware.threads=1")
    assert outcome.code == 0 and outcome.json["data"] == [2], outcome.err
    assert not (tmp_path / "multirun.yaml").exists()
    outcome = mixgan("bench", *TINY, "hardware.capture=true")
    assert outcome.code == 2 and "hardware.capture=true" in outcome.err
