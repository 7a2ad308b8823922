from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from mixgan_cli.evaluation.metrics.knn import two_sample_test


def by_scikit_learn(fake, real, k):
    pool, kind = np.concatenate([fake, real]), np.array([1] * len(fake) + [0] * len(real))
    _, nearest = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(pool).kneighbors(pool)
    same = kind[nearest[:, 1:]] == kind[:, None]  # the first is the sample itself
    figures = []
    for of_sample in (same.mean(axis=1), [0.5 if 2 * row.sum() == k else float(2 * row.sum() > k) for row in same]):
        figures += [np.asarray(of_sample)[kind == 1].mean(), np.asarray(of_sample)[kind == 0].mean()]
    return figures


@pytest.mark.parametrize("k", [1, 4, 5])
@pytest.mark.parametrize("shift", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("block", [7, 64, 350, 1024])
def test_equals_scikit_learn(k, shift, block):
    fake, real = torch.randn(150, 10) + shift, torch.randn(200, 10)
    assert two_sample_test(fake, real, k, block) == pytest.approx(by_scikit_learn(fake.numpy(), real.numpy(), k))


def test_equal_distributions_score_one_half():
    shares = two_sample_test(torch.randn(3000, 5), torch.randn(3000, 5))
    assert shares == pytest.approx([0.5] * 4, abs=0.03)


def test_distant_sets_score_one():
    assert two_sample_test(torch.randn(100, 5) + 1000, torch.randn(100, 5)) == (1.0,) * 4


def test_real_samples_surrounded_by_fakes_score_zero():
    real = torch.arange(10.0).view(-1, 1) * 100
    fake = (real + 0.01 * torch.arange(1, 7)).reshape(-1, 1)
    assert two_sample_test(fake, real)[1] == 0.0


def test_large_offset_does_not_change_neighbours():
    """Squares of a large offset must not drown the differences."""
    fake, real = torch.randn(100, 3).double(), torch.randn(100, 3).double()
    assert two_sample_test(fake + 1e6, real + 1e6) == two_sample_test(fake, real)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="5 neighbours of 4 samples"):
        two_sample_test(torch.randn(2, 3), torch.randn(2, 3))


def test_copies_are_neighbours_but_a_sample_is_not_its_own():
    """Every real sample has one exact copy among the generated ones, and nothing else is near."""
    real = torch.arange(20.0).view(-1, 1) * 1000
    assert two_sample_test(real.clone(), real, k=1, block=8) == (0.0,) * 4


def by_loops(fake, real, k):
    """The expected shares, sample by sample: of the equally far, all choices count alike."""
    pool, kind = np.concatenate([fake, real]).astype(float), np.array([1] * len(fake) + [0] * len(real))
    soft, majority = [], []
    for i, sample in enumerate(pool):
        distance = ((np.delete(pool, i, axis=0) - sample) ** 2).sum(axis=1)
        same = np.delete(kind, i) == kind[i]
        last = np.sort(distance)[k - 1]
        certain, tied = same[distance < last], same[distance == last]
        draws = [sum(draw) for draw in combinations(tied.tolist(), k - len(certain))]
        own = certain.sum() + np.array(draws)
        soft.append(own.mean() / k)
        majority.append(np.where(2 * own == k, 0.5, 2 * own > k).mean())
    return [np.mean(np.array(shares)[kind == value]) for shares in (soft, majority) for value in (1, 0)]


@pytest.mark.parametrize("k", [1, 4, 5])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_ties_are_averaged(k, dtype):
    """Points on a small lattice: most distances occur several times."""
    fake, real = torch.randint(0, 4, (12, 2), dtype=torch.uint8), torch.randint(0, 4, (11, 2), dtype=torch.uint8)
    expected = by_loops(fake.numpy(), real.numpy(), k)
    assert two_sample_test(fake.to(dtype), real.to(dtype), k, block=7) == pytest.approx(expected, abs=1e-9)


def test_result_of_equal_images_does_not_depend_on_the_order():
    """Among equal images, the place in the pool does not decide: with 40 blanks, 19 of 39 others are of one's kind."""
    blanks = torch.zeros(20, 64, dtype=torch.uint8)
    shares = two_sample_test(blanks, blanks)
    assert shares.fake == shares.real == pytest.approx(19 / 39)
    noise = torch.randint(0, 256, (70, 64), dtype=torch.uint8)
    more = torch.randint(0, 256, (70, 64), dtype=torch.uint8)
    mixed = two_sample_test(torch.cat((noise, blanks)), torch.cat((blanks, more)))
    assert mixed == pytest.approx(two_sample_test(torch.cat((blanks, noise)), torch.cat((more, blanks))), abs=1e-12)


def test_features_of_identical_images_are_tied_despite_rounding():
    exact = 50 * torch.cat((torch.randn(1, 300).expand(40, -1), torch.randn(30, 300)))[torch.randperm(70)]
    rounded = exact * (1 + 1e-7 * torch.randn_like(exact))
    expected = by_loops(exact[:30].double().numpy(), exact[30:].double().numpy(), 5)
    assert two_sample_test(rounded[:30], rounded[30:]) == pytest.approx(expected, abs=1e-9)


def test_points_are_compared_in_double_precision(monkeypatch):
    """Points far from the centre: float32 would lose which are nearer."""
    centres = torch.tensor([[-1e3, 0.0], [1e3, 0.0]], dtype=torch.float64)
    fake, real = (centres.repeat(100, 1) + 1e-2 * torch.randn(200, 2, dtype=torch.float64) for _ in range(2))
    assert two_sample_test(fake, real) == pytest.approx(by_scikit_learn(fake.numpy(), real.numpy(), 5), abs=1e-9)
