"""Modes against known answers, and distances of histograms against scipy's."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mixgan_cli.config.components import build
from mixgan_cli.data.datasets.toy2d import Pair, Ring, Spiral
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.evaluation.metrics import points
from mixgan_cli.evaluation.metrics.points import BINS, EPS, histogram, modes, reverse_kl, symmetric_kl, wasserstein
from mixgan_cli.evaluation.reference import ReferenceSet, reference_set
from tests.conftest import composed

WINDOW = BINS / 2  # bins are of width 1, between whole numbers


def test_points_outside_count_in_border_bins():
    inf = float("inf")
    points = torch.tensor([[100.0, 0.5], [-100, 0.5], [0.5, inf], [-inf, -inf], [-25.0, 25.0], [0.99, 3.0]])
    shares = histogram(points, WINDOW)
    filled = {(49, 25), (0, 25), (25, 49), (0, 0), (0, 49), (25, 28)}
    assert {tuple(bin) for bin in shares.nonzero().tolist()} == filled
    assert shares.sum().item() == pytest.approx(1) and shares.max().item() == pytest.approx(1 / 6)


def test_nan_points_are_refused():
    with pytest.raises(ValueError, match="not numbers"):
        histogram(torch.tensor([[0.0, float("nan")]]), WINDOW)


def test_symmetric_kl_equals_scipy():
    first, second = 8 * torch.randn(3000, 2), 12 * torch.randn(2000, 2) + torch.tensor([3.0, -4.0])

    def smoothed(points):
        edges = np.linspace(-WINDOW, WINDOW, BINS + 1)
        inside = np.clip(points.double().numpy(), -WINDOW, WINDOW)
        return np.histogram2d(*inside.T, bins=(edges, edges))[0].ravel() / len(points) + EPS

    p, q = smoothed(first), smoothed(second)
    expected = stats.entropy(p, q) + stats.entropy(q, p)  # which makes them sum to 1
    assert symmetric_kl(first, second, WINDOW) == pytest.approx(expected, rel=1e-9)
    assert symmetric_kl(second, first, WINDOW) == pytest.approx(expected, rel=1e-9)


def test_wasserstein_of_a_shift_is_its_length():
    points = torch.randint(-20, 15, (2000, 2)) + 0.3
    moved = points + torch.tensor([3.0, 4.0])
    assert wasserstein(moved, points, WINDOW) == pytest.approx(5)
    assert wasserstein(moved / 10, points / 10, WINDOW / 10) == pytest.approx(0.5)


@pytest.mark.parametrize("axis", [0, 1])
def test_wasserstein_on_one_row_equals_scipy(axis):
    points, sets = [8 * torch.randn(700) - 2, 4 * torch.randn(900) + 5], []
    for along in points:
        across = torch.full_like(along, 7.5)
        sets.append(torch.stack((along, across) if axis == 0 else (across, along), dim=1))
    centres = [along.floor().clamp(-25, 24).numpy() + 0.5 for along in points]
    assert wasserstein(*sets, WINDOW) == pytest.approx(stats.wasserstein_distance(*centres))


def test_wasserstein_is_the_cheapest_assignment():
    from scipy.optimize import linear_sum_assignment

    first, second = (torch.randint(-25, 25, (60, 2)) + 0.5 for _ in range(2))
    costs = torch.cdist(first, second)
    assert wasserstein(first, second, WINDOW) == pytest.approx(
        costs[linear_sum_assignment(costs.numpy())].mean().item(), rel=1e-5
    )


@pytest.mark.parametrize("window", [WINDOW, 17.3])
def test_equal_sets_have_distance_zero(window):
    points = 5 * torch.randn(2000, 2)
    order = torch.randperm(2000)
    assert symmetric_kl(points, points[order], window) == 0 and wasserstein(points, points[order], window) == 0


def test_mass_outside_the_extent_is_counted():
    reals = torch.full((100, 2), 0.5)
    fakes = reals.clone()
    fakes[:50, 0] = 1000.0
    assert wasserstein(fakes, reals, WINDOW) == pytest.approx(0.5 * 24)
    assert symmetric_kl(fakes, reals, WINDOW) > 1


def test_unfinished_transport_is_unavailable(monkeypatch):
    monkeypatch.setattr(points, "ITERATIONS", 1)
    with pytest.warns(UserWarning), pytest.raises(Unavailable, match="not found"):
        wasserstein(5 * torch.randn(500, 2), 5 * torch.randn(500, 2), WINDOW)


def evaluator(source, *overrides):
    evaluation = composed("data=ring", "evaluation.n_fake=4000", "evaluation.n_real=4000", *overrides).evaluation
    return Evaluator(evaluation, reference_set(source, source.load(), evaluation), torch.device("cpu"))


def test_real_points_score_like_a_second_draw():
    ring = Ring(8, 2.0, 0.02)
    measured = evaluator(ring)
    good, bad = measured.measure(ring.draw(4000), {}), measured.measure(ring.draw(4000) * 1.2, {})
    for name in ("symmetric_kl", "wasserstein"):
        floor = good.metrics[f"{name}_real"]
        assert 0 < floor == bad.metrics[f"{name}_real"]
        assert good.metrics[name] == pytest.approx(floor, rel=0.5) and bad.metrics[name] > 3 * floor
    assert bad.metrics["wasserstein"] == pytest.approx(0.4, abs=0.05)
    assert good.protocol["histograms"] == {"window": 3.0, "bins": 50, "eps": 1e-5}
    assert good.metrics["modes_covered"] == 8


def test_spiral_has_histograms_but_no_modes():
    spiral = Spiral(780, 0.5, n=100)
    result = evaluator(spiral).measure(spiral.draw(500), {})
    assert result.metrics.keys() >= {"symmetric_kl", "wasserstein", "symmetric_kl_real", "wasserstein_real"}
    assert "modes_covered" in result.unavailable and result.protocol["histograms"]["window"] == 15.0


@pytest.mark.parametrize("shape", [(20, 2), (20, 1, 4, 4)], ids=["points", "images"])
def test_missing_extent_is_reported(shape):
    evaluation = composed("data=ring", "evaluation.metrics=[plane]").evaluation
    samples = torch.zeros(shape, dtype=torch.uint8 if len(shape) == 4 else torch.float32)
    result = Evaluator(evaluation, ReferenceSet(samples, {}), torch.device("cpu")).measure(samples, {})
    assert result.metrics == {} and result.unavailable.keys() == {"symmetric_kl", "wasserstein"}
    assert "window" in result.unavailable["wasserstein"] and "histograms" not in result.protocol


def test_real_points_cover_all_modes():
    ring = Ring(8, 2.0, 0.02)
    covered, share = modes(ring.draw(50_000), *ring.gaussians)
    assert covered == 8 and share == pytest.approx(1 - math.exp(-4.5), abs=0.002)


def test_missing_modes_are_not_counted():
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    points = torch.tensor([[0.1, 0.0], [10.0, 0.2], [15.0, 0.0], [15.0, 1.0]])
    std = torch.full((3,), 0.1)
    assert modes(points, means, std) == (2, 0.5)
    assert modes(points + 100, means, std) == (0, 0.0)


def test_reverse_kl_is_that_of_the_modes_shares():
    means, std = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]), torch.full((3,), 0.1)
    near = torch.tensor([[0.1, 0.0], [0.0, 0.2], [0.0, 0.0], [10.0, 0.2]])
    points = torch.cat((near, torch.tensor([[19.0, 0.0], [19.0, 1.0]])))  # two that belong to the third, from afar
    assert reverse_kl(points, means, std) == pytest.approx(stats.entropy([3, 1, 0], [1, 1, 1]))
    assert reverse_kl(points, means, std, only_high_quality=False) == pytest.approx(stats.entropy([3, 1, 2], [1, 1, 1]))
    assert reverse_kl(near[:3], means, std) == pytest.approx(math.log(3))
    with pytest.raises(Unavailable, match="three standard deviations"):
        reverse_kl(points + 100, means, std)


def test_reverse_kl_of_pacgan_sets():
    for name, modes_of in (("ring_pacgan", 8), ("grid_pacgan", 25)):
        source = build(composed(f"data={name}").data)
        means, std = source.gaussians
        points = source.load().points_N2
        assert (len(means), len(points)) == (modes_of, 100_000)
        assert reverse_kl(points, means, std) < 1e-4 and modes(points, means, std)[0] == modes_of
        assert std[0].item() == pytest.approx({8: 0.01, 25: 0.05}[modes_of])
        assert means.abs().max().item() == pytest.approx({8: 1.0, 25: 4.0}[modes_of])


def test_each_mode_has_its_own_width():
    means, std = torch.tensor([[0.0, 0.0], [10.0, 0.0]]), torch.tensor([0.1, 2.0])
    assert modes(torch.tensor([[4.5, 0.0]]), means, std) == (1, 1.0)  # nearer to the first, but of the second
    assert modes(torch.tensor([[0.0, 0.5], [10.0, 0.5]]), means, std) == (1, 0.5)
    pair = Pair(5.0, (0.25, 2.0))
    covered, share = modes(pair.draw(50_000), *pair.gaussians)
    assert covered == 2 and share == pytest.approx(1 - math.exp(-4.5), abs=0.002)
