"""Streaming moments compared with numpy, and FID from them with torch-fidelity's from whole features."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from mixgan_cli.evaluation.moments import Moments, frechet, least_bias

OFFSET = 1e4


def moments(features, *splits):
    found = Moments()
    for part in features.split(splits or len(features)):
        found.add(part)
    return found


@pytest.mark.parametrize("gathered", [1, 100, 1024])
@pytest.mark.parametrize("splits", [(), (1, 99, 100), (64, 64, 64, 8), (199, 1)])
def test_moments_equal_numpy_for_any_batches(splits, gathered, monkeypatch):
    """With a large offset, a naive sum of squares would lose its digits."""
    monkeypatch.setattr("mixgan_cli.evaluation.moments.MERGED", gathered)
    features = torch.randn(200, 6).double() * torch.arange(1, 7) + OFFSET
    state = moments(features, *splits).state()
    np.testing.assert_allclose(state["mean"], features.numpy().mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(state["covariance"], np.cov(features.numpy(), rowvar=False), rtol=1e-9, atol=1e-10)
    assert state["n"] == 200


def test_moments_can_be_stored():
    features = torch.randn(50, 4)
    kept = Moments.from_state(moments(features[:30]).state()).add(features[30:])
    for name, value in moments(features).state().items():
        np.testing.assert_allclose(kept.state()[name], value, atol=1e-12)


def test_frechet_equals_torch_fidelity():
    fake, real = torch.randn(300, 8) + 0.3, torch.randn(300, 8) * 1.2
    statistics = [fid_features_to_statistics(features.double()) for features in (fake, real)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet(moments(fake, 100, 200), moments(real)) == pytest.approx(theirs, rel=1e-9)


def test_frechet_equals_its_formula():
    fake, real = torch.randn(300, 5).double() + 0.3, torch.randn(300, 5).double() * 1.2
    a, b = np.cov(fake, rowvar=False), np.cov(real, rowvar=False)
    step = (fake.mean(dim=0) - real.mean(dim=0)).numpy()
    expected = step @ step + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet(moments(fake), moments(real)) == pytest.approx(expected, rel=1e-9)
    assert abs(frechet(moments(real), moments(real))) < 1e-9


@pytest.mark.parametrize("samples", [(4, 4), (4, 300), (300, 4), (20, 300)])
def test_frechet_of_fewer_samples_than_features_equals_its_formula(samples):
    """Also where a covariance has no Cholesky factor, by the square root of scipy. Its rounding is that of a root."""
    fake, real = (torch.randn(n, 20).double() @ torch.randn(20, 20).double() for n in samples)
    a, b = np.cov(fake, rowvar=False), np.cov(real, rowvar=False)
    step = (fake.mean(dim=0) - real.mean(dim=0)).numpy()
    expected = step @ step + np.trace(a + b - 2 * sqrtm(a @ b + 1e-14 * np.eye(20)).real)
    assert frechet(moments(fake), moments(real)) == pytest.approx(expected, rel=1e-5)


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="1 samples have no covariance"):
        moments(torch.randn(1, 3)).state()
    with pytest.raises(ValueError, match="0 samples"):
        Moments().state()


def test_distance_of_equal_moments_is_not_negative():
    for n in (3, 5, 50):  # fewer samples than features, too
        features = torch.randn(n, 8) @ torch.randn(8, 8)
        assert 0 <= frechet(moments(features), moments(features)) < 1e-5


def test_bias_is_below_the_distance_of_real_sets():
    """The means alone: with one feature of known variance, the means of two sets differ by σ² (1/n + 1/m)."""
    real = Moments.from_state({**moments(3 * torch.randn(4000, 6)).state(), "n": np.array(40)})
    values = [frechet(moments(3 * torch.randn(20, 6)), moments(3 * torch.randn(40, 6))) for _ in range(200)]
    steps = [(3 * torch.randn(20, 6)).mean(dim=0) - (3 * torch.randn(40, 6)).mean(dim=0) for _ in range(2000)]
    bias = least_bias(real, 20)
    assert bias == pytest.approx(np.mean([step.square().sum().item() for step in steps]), rel=0.1)
    assert bias < np.mean(values)
