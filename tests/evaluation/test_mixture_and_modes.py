import math

import pytest
import torch

from mixgan_cli.data.points import Pair, Ring
from mixgan_cli.evaluation.mixture import expert_usage, gate_entropy
from mixgan_cli.evaluation.modes import modes


def test_usage_and_entropy():
    assert expert_usage(torch.tensor([[1.0, 0.0], [0.5, 0.5]])) == [0.75, 0.25]
    assert gate_entropy(torch.full((10, 8), 1 / 8)) == pytest.approx(math.log(8))
    assert gate_entropy(torch.eye(8)) == 0.0


def test_real_points_cover_all_modes():
    ring = Ring(8, 2.0, 0.02)
    covered, share = modes(ring.draw(50_000), *ring.gaussians)
    assert covered == 8 and share == pytest.approx(1 - math.exp(-4.5), abs=0.002)


def test_modes_that_are_missing():
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    points = torch.tensor([[0.1, 0.0], [10.0, 0.2], [15.0, 0.0], [15.0, 1.0]])
    std = torch.full((3,), 0.1)
    assert modes(points, means, std) == (2, 0.5)
    assert modes(points + 100, means, std) == (0, 0.0)


def test_each_mode_has_its_own_width():
    means, std = torch.tensor([[0.0, 0.0], [10.0, 0.0]]), torch.tensor([0.1, 2.0])
    assert modes(torch.tensor([[4.5, 0.0]]), means, std) == (1, 1.0)  # nearer to the first, but of the second
    assert modes(torch.tensor([[0.0, 0.5], [10.0, 0.5]]), means, std) == (1, 0.5)
    pair = Pair(5.0, (0.25, 2.0))
    covered, share = modes(pair.draw(50_000), *pair.gaussians)
    assert covered == 2 and share == pytest.approx(1 - math.exp(-4.5), abs=0.002)
