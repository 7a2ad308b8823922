"""Distributions in the plane as data sets."""

import pytest
import torch

from mixgan_cli.config.components import build
from mixgan_cli.data.datasets.toy2d import FixedPoints, Ring, Spiral, Toy2D
from tests.conftest import composed

CPU = torch.device("cpu")


class Cross(Toy2D):
    """What somebody adds: one class."""

    extent = 1.0

    def draw(self, n, device="cpu"):
        along = 2 * torch.rand(n, device=device) - 1
        return torch.where((torch.rand(n, device=device) < 0.5)[:, None], along[:, None] * torch.tensor([1.0, 0]), 0)


def as_rows(points):
    return sorted(map(tuple, points.tolist()))


def test_fresh_points_follow_the_loops_random_state():
    batches = Ring(8, 2.0, 0.02).load().batches(0, CPU)
    torch.manual_seed(5)
    first, second = batches.get_batch(0, 50), batches.get_batch(0, 50)
    torch.manual_seed(5)
    assert first.shape == (50, 2) and torch.equal(first, batches.get_batch(50, 50)) and not torch.equal(first, second)


@pytest.mark.parametrize("make", [lambda n: Ring(8, 2.0, 0.02, n), lambda n: Spiral(780, 0.5, n), Cross])
def test_a_fixed_set_is_fixed_and_shown_whole(make):
    torch.manual_seed(1)
    once = make(40).load()
    torch.manual_seed(2)
    again = make(40).load()
    assert isinstance(once, FixedPoints) and torch.equal(once.points_N2, again.points_N2)
    batches = once.batches(0, CPU)
    epochs = [
        torch.cat((batches.get_batch(40 * epoch, 25), batches.get_batch(40 * epoch + 25, 15))) for epoch in range(2)
    ]
    assert as_rows(epochs[0]) == as_rows(epochs[1]) == as_rows(once.points_N2)
    assert not torch.equal(*epochs) and not torch.equal(epochs[0], once.batches(1, CPU).get_batch(0, 40))


def test_drawing_the_set_leaves_the_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Ring(8, 2.0, 0.02, n=40).load()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("n", [None, 40])
def test_reals_are_fresh_and_repeatable(n):
    dataset = Ring(8, 2.0, 0.02, n).load()
    reals = dataset.reals(500, 1)
    assert reals.shape == (500, 2) and torch.equal(reals, dataset.reals(500, 1))
    assert not set(as_rows(reals)) & set(as_rows(dataset.reals(500, 2)))
    if n:
        assert not set(as_rows(reals)) & set(as_rows(dataset.points_N2))


def test_the_description_tells_sets_apart():
    assert "train" not in Ring(8, 2.0, 0.02).load().describe()
    same, equal, other, bigger = (
        Spiral(degrees, 0.5, n).load().describe() for degrees, n in ((780, 40), (780, 40), (700, 40), (780, 41))
    )
    assert same == equal and same["train"]["n"] == 40 and same["distribution"] == "Spiral(degrees=780, noise=0.5)"
    assert len({about["train"]["checksum"] for about in (same, other, bigger)}) == 3


@pytest.mark.parametrize("name", ["grid", "spiral", "pair", "random_gmm"])
def test_the_authors_sets_have_2500_points(name):
    run = composed(f"data={name}")
    dataset = build(run.data).load()
    assert len(dataset.points_N2) == dataset.describe()["train"]["n"] == 2500
    assert run.evaluation.metrics == ("modes", "plane", "knn", "mixture")


def test_the_ring_is_fresh_unless_told_otherwise():
    assert not isinstance(build(composed("data=ring").data).load(), FixedPoints)
    assert len(build(composed("data=ring", "data.n=100").data).load().points_N2) == 100


def test_a_set_smaller_than_a_batch(mixgan):
    outcome = mixgan("train", "data=spiral", "data.n=20", "training.batch=32", "training.nimg=64", "hardware=cpu")
    assert outcome.code == 2 and "only 20" in outcome.err
