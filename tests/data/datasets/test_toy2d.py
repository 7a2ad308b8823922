"""The distributions in the plane against their formulas, and as data sets."""

import math

import pytest
import torch

from mixgan_cli.config.components import build
from mixgan_cli.data.datasets.toy2d import Gaussians, Grid, Pair, RandomGMM, Ring, Spiral, Toy2D
from mixgan_cli.errors import ConfigError
from tests.conftest import composed

CPU = torch.device("cpu")


RING = Ring(modes=8, radius=2.0, variance=0.02)

GRID = Grid(side=5, half_width=10.0, std=0.05)

PAIR = Pair(offset=5.0, std=(0.25, 2.0))

GMM = RandomGMM(components=5, half_width=12.0, std=(0.5, 2.5), mixture_seed=0)

SPIRAL = Spiral(degrees=780, noise=0.5)

ALL = (RING, GRID, PAIR, GMM, SPIRAL)

N = 80_000


def name(source):
    return type(source).__name__


class Cross(Toy2D):
    """A distribution that a user adds."""

    extent = 1.0

    def draw(self, n, device="cpu"):
        along = 2 * torch.rand(n, device=device) - 1
        return torch.where((torch.rand(n, device=device) < 0.5)[:, None], along[:, None] * torch.tensor([1.0, 0]), 0)


def as_rows(points):
    return sorted(map(tuple, points.tolist()))


@pytest.mark.parametrize("source", ALL, ids=name)
def test_shape_dtype_and_independence(source):
    first, second = source.draw(100), source.draw(100)
    assert first.shape == second.shape == source.draw_set(100).shape == (100, 2) == (100, *source.shape)
    assert first.dtype == torch.float32 and not torch.equal(first, second)


@pytest.mark.parametrize(("source", "extent"), [(RING, 3), (GRID, 11), (PAIR, 15), (GMM, None), (SPIRAL, 15)])
def test_extent_holds_the_mass(source, extent):
    assert extent is None or source.extent == extent
    reach = source.draw(N).abs().max()
    assert 0.7 * source.extent < reach < source.extent


@pytest.mark.parametrize("source", [RING, GRID, PAIR, GMM], ids=name)
def test_moments_of_equal_gaussians(source):
    means, std = (of_modes.double() for of_modes in source.gaussians)
    points = source.draw(N).double()
    expected = means.T.cov(correction=0) + std.square().mean() * torch.eye(2)
    variance = expected.trace().item()
    torch.testing.assert_close(points.mean(dim=0), means.mean(dim=0), atol=0.02 * math.sqrt(variance), rtol=0)
    torch.testing.assert_close(points.T.cov(), expected, atol=0.02 * variance, rtol=0)


@pytest.mark.parametrize("source", [RING, GRID, PAIR], ids=name)
def test_weight_and_std_of_each_mode(source):
    means, std = source.gaussians
    points = source.draw(N)
    nearest = (torch.cdist(points, means) / std).argmin(dim=1)
    shares = nearest.bincount(minlength=len(means)) / N
    assert torch.allclose(shares, torch.full_like(shares, 1 / len(means)), atol=0.005)
    spread = torch.stack([(points - means)[nearest == mode].std(dim=0) for mode, means in enumerate(means)])
    torch.testing.assert_close(spread, std[:, None].expand(-1, 2), atol=0, rtol=0.06)


def test_ring_of_the_paper():
    means, std = RING.gaussians
    torch.testing.assert_close(means.norm(dim=1), torch.full((8,), 2.0))
    torch.testing.assert_close(means[0], torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(std, torch.full((8,), 0.02).sqrt())


def test_grid_of_the_authors_code():
    means, std = GRID.gaussians
    assert {tuple(mean) for mean in means.tolist()} == {(x, y) for x in range(-10, 11, 5) for y in range(-10, 11, 5)}
    assert std.tolist() == pytest.approx([0.05] * 25)


def test_pair_of_the_authors_code():
    means, std = PAIR.gaussians
    assert means.tolist() == [[-5, 5], [5, -5]] and std.tolist() == [0.25, 2]


def test_random_mixture_has_its_own_seed():
    torch.manual_seed(1)
    same, other = (RandomGMM(5, 12.0, (0.5, 2.5), mixture_seed=seed) for seed in (0, 1))
    assert torch.equal(same.means_M2, GMM.means_M2) and torch.equal(same.std_M, GMM.std_M)
    assert not torch.equal(other.means_M2, GMM.means_M2)
    many = RandomGMM(10_000, 12.0, (0.5, 2.5), mixture_seed=0)
    for values, least, most in ((many.means_M2, -12, 12), (many.std_M, 0.5, 2.5)):
        assert least <= values.min() < least + 0.01 and most - 0.01 < values.max() <= most
        assert values.mean().item() == pytest.approx((least + most) / 2, abs=0.15)


def test_mean_of_the_spiral():
    """t has the density 2t/T² on [0, T]."""
    end = 780 * 2 * math.pi / 360
    t_cos_t = 2 * (end**2 * math.sin(end) + 2 * end * math.cos(end) - 2 * math.sin(end)) / end**2
    t_sin_t = 2 * (-(end**2) * math.cos(end) + 2 * end * math.sin(end) + 2 * math.cos(end) - 2) / end**2
    expected = torch.tensor([0.25 - t_cos_t, 0.25 + t_sin_t])
    torch.testing.assert_close(SPIRAL.draw(N).mean(dim=0), expected, atol=0.1, rtol=0)


def test_curve_and_noise_of_the_spiral():
    curve = Spiral(degrees=780, noise=0).draw_set(2500)
    t = torch.linspace(0, 1, 2500).sqrt() * 780 * 2 * math.pi / 360
    torch.testing.assert_close(curve, torch.stack((-t * t.cos(), t * t.sin()), dim=1), atol=1e-4, rtol=0)
    noise = Spiral(degrees=1e-6, noise=0.5).draw(N)
    assert noise.min() >= 0 and 0.499 < noise.max() <= 0.5001
    torch.testing.assert_close(noise.mean(dim=0), torch.tensor([0.25, 0.25]), atol=0.002, rtol=0)
    assert noise.T.corrcoef()[0, 1].abs() < 0.02


@pytest.mark.parametrize("source", [GRID, PAIR, GMM], ids=name)
def test_fixed_set_has_equal_counts_per_mode(source):
    narrow = Gaussians(source.means_M2, torch.full_like(source.std_M, 1e-3), n=None)
    counts = torch.cdist(narrow.draw_set(2500), narrow.means_M2).argmin(dim=1).bincount()
    assert counts.tolist() == [2500 // len(counts)] * len(counts)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: Ring(8, 2.0, 0), "variance=0"), (lambda: Ring(0, 2.0, 1.0), "modes=0"),
     (lambda: Ring(8, math.nan, 1.0), "radius=nan"), (lambda: Ring(8, 2.0, 1.0, n=0), "n=0"),
     (lambda: Grid(1, 10.0, 0.05), "side=1"), (lambda: Grid(5, 10.0, -1.0), "std=-1"),
     (lambda: Pair(5.0, (0.25, 0.0)), "wide=0"), (lambda: Pair(0.0, (0.25, 2.0)), "offset=0"),
     (lambda: RandomGMM(5, 12.0, (2.5, 0.5), 0), r"std=\[2.5, 0.5\]"),
     (lambda: RandomGMM(0, 12.0, (0.5, 2.5), 0), "components=0"),
     (lambda: Spiral(0, 0.5), "degrees=0"), (lambda: Spiral(780, -0.5), "noise=-0.5")],
)  # fmt: skip
def test_invalid_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_repr_identifies_the_distribution():
    texts = [repr(source) for source in (*ALL, Ring(8, 2.0, 0.03), Spiral(780, 0.4), Pair(5.0, (0.25, 1.0)))]
    texts += [repr(RandomGMM(5, 12.0, (0.5, 2.5), mixture_seed=1)), repr(Grid(5, 10.0, 0.06))]
    assert len(set(texts)) == len(texts) and texts[0] == "Ring(modes=8, radius=2.0, std=0.141421)"


def test_fresh_points_follow_the_random_state():
    batches = Ring(8, 2.0, 0.02).load().batches(0, CPU)
    torch.manual_seed(5)
    first, second = batches.get_batch(0, 50), batches.get_batch(0, 50)
    torch.manual_seed(5)
    assert first.shape == (50, 2) and torch.equal(first, batches.get_batch(50, 50)) and not torch.equal(first, second)


@pytest.mark.parametrize("make", [lambda n: Ring(8, 2.0, 0.02, n), lambda n: Spiral(780, 0.5, n), Cross])
def test_fixed_set_is_shown_whole_in_each_epoch(make):
    torch.manual_seed(1)
    once = make(40).load()
    torch.manual_seed(2)
    again = make(40).load()
    assert torch.equal(once.points_N2, again.points_N2)
    batches = once.batches(0, CPU)
    epochs = [
        torch.cat((batches.get_batch(40 * epoch, 25), batches.get_batch(40 * epoch + 25, 15))) for epoch in range(2)
    ]
    assert as_rows(epochs[0]) == as_rows(epochs[1]) == as_rows(once.points_N2)
    assert not torch.equal(*epochs) and not torch.equal(epochs[0], once.batches(1, CPU).get_batch(0, 40))


def test_drawing_a_fixed_set_keeps_the_random_state():
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


def test_description_identifies_the_set():
    assert "train" not in Ring(8, 2.0, 0.02).load().describe()
    same, equal, other, bigger = (
        Spiral(degrees, 0.5, n).load().describe() for degrees, n in ((780, 40), (780, 40), (700, 40), (780, 41))
    )
    assert same == equal and same["train"]["n"] == 40 and same["distribution"] == "Spiral(degrees=780, noise=0.5)"
    assert len({about["train"]["checksum"] for about in (same, other, bigger)}) == 3


@pytest.mark.parametrize("name", ["grid", "spiral", "pair", "random_gmm"])
def test_authors_sets_have_2500_points(name):
    run = composed(f"data={name}")
    dataset = build(run.data).load()
    assert len(dataset.points_N2) == dataset.describe()["train"]["n"] == 2500
    assert run.evaluation.metrics == ("modes", "plane", "knn", "mixture")


def test_ring_is_fresh_by_default():
    assert build(composed("data=ring").data).load().points_N2 is None
    assert len(build(composed("data=ring", "data.n=100").data).load().points_N2) == 100


def test_set_smaller_than_a_batch_is_refused(mixgan):
    outcome = mixgan("train", "data=spiral", "data.n=20", "training.batch=32", "training.nimg=64", "hardware=cpu")
    assert outcome.code == 2 and "only 20" in outcome.err
