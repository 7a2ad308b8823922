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
