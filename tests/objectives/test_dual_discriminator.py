"""D2GAN's loss on two scores, compared with its divergences and with numpy; its two discriminators."""

import math

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.objectives.adversarial import DualDiscriminator, log_softplus
from tests.conftest import composed

R1 = ("objective.penalty._target_=mixgan_cli.objectives.R1", "+objective.penalty.weight=1")
# Tenths of the samples at two places, by the data p and the model q
HALVES, UNEVEN = (5, 5), (9, 1)


def best_scores(p, q, alpha, beta):
    """Scores whose softplus is D_1 = alpha p/q and D_2 = beta q/p, [2 places, 2 scores]."""
    ratio = np.array(p) / np.array(q)
    return torch.from_numpy(np.log(np.expm1(np.stack((alpha * ratio, beta / ratio), axis=1))))


@pytest.mark.parametrize(
    ("q", "alpha", "beta", "expected"),
    [(UNEVEN, 1.0, 1.0, -1.121110), (HALVES, 1.0, 1.0, -2.0), (HALVES, 0.2, 0.1, -0.852146)],
)
def test_value_at_the_best_discriminators(q, alpha, beta, expected):
    """alpha (log alpha - 1) + beta (log beta - 1) + alpha KL(p ‖ q) + beta KL(q ‖ p), shared/spec/rivals.md §4.3."""
    loss, scores = DualDiscriminator(alpha, beta), best_scores(HALVES, q, alpha, beta)
    real, fake = (scores.repeat_interleave(torch.tensor(tenths), dim=0) for tenths in (HALVES, q))
    value = -(loss.real(real) + loss.fake(fake)).item()
    assert value == pytest.approx(expected, abs=1e-6)
    p, q = np.array(HALVES) / 10, np.array(q) / 10
    kl, reverse = (p * np.log(p / q)).sum(), (q * np.log(q / p)).sum()
    constant = alpha * (math.log(alpha) - 1) + beta * (math.log(beta) - 1)
    assert value == pytest.approx(constant + alpha * kl + beta * reverse, rel=1e-9)


def test_losses_are_the_formula():
    loss = DualDiscriminator(0.3, 0.7)
    real, fake = torch.randn(7, 2).double(), torch.randn(5, 2).double()
    (r1, r2), (f1, f2) = (np.log1p(np.exp(scores.numpy().T)) for scores in (real, fake))
    assert loss.real(real).item() == pytest.approx(-0.3 * np.log(r1).mean() + r2.mean(), rel=1e-12)
    assert loss.fake(fake).item() == pytest.approx(f1.mean() - 0.7 * np.log(f2).mean(), rel=1e-12)
    assert loss.generator(fake).item() == pytest.approx(-f1.mean() + 0.7 * np.log(f2).mean(), rel=1e-12)


@pytest.mark.parametrize("score", [80.0, -80.0, 1e4, -1e4])
@pytest.mark.parametrize("of", ["real", "fake", "generator"])
def test_losses_of_extreme_scores_are_finite(score, of):
    scores = torch.full((3, 2), score, requires_grad=True)
    value = getattr(DualDiscriminator(1.0, 1.0), of)(scores)
    value.backward()
    assert value.isfinite() and scores.grad.isfinite().all() and scores.grad.abs().max() <= 1


def test_log_softplus_matches_numpy():
    values = torch.linspace(-30, 30, 2001, dtype=torch.double, requires_grad=True)
    result = log_softplus(values)
    result.sum().backward()
    v = values.detach().numpy()
    np.testing.assert_allclose(result.detach().numpy(), np.log(np.log1p(np.exp(v))), rtol=1e-8, atol=1e-8)
    derivative = 1 / ((1 + np.exp(-v)) * np.log1p(np.exp(v)))
    np.testing.assert_allclose(values.grad.numpy(), derivative, rtol=1e-6)
    at_the_change = log_softplus(torch.tensor([-15 - 1e-9, -15 + 1e-9], dtype=torch.double))
    assert at_the_change.diff().item() == pytest.approx(2e-9, rel=1e-3)


def test_discriminators_share_no_layer():
    """A loss on one score has no gradient for the other discriminator; the parameters are twice those of one."""
    words = ["data=ring", "model.backbone.discriminator_widths=[128]"]
    networks = build_networks(composed("model=d2gan", *words).model, (2,))
    single = build_networks(composed("model=gan", *words).model, (2,))
    assert parameter_counts(networks)["discriminator"] == 2 * 513 == 2 * parameter_counts(single)["discriminator"]
    scores = networks.discriminator(torch.randn(6, 2)).scores_N
    assert scores.shape == (6, 2)
    scores[:, 0].sum().backward()
    body, head = networks.discriminator.body.each, networks.discriminator.head.each
    assert all(p.grad.any() for part in (body[0], head[0]) for p in part.parameters())
    assert not any(p.grad.any() for part in (body[1], head[1]) for p in part.parameters())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("model=d2gan", "model/head=score"), r"model\.head: ScoreHead gives one score"),
        (("model=gan", "model/head=dual"), r"objective\.adversarial: Wasserstein takes one score"),
        (("model=d2gan", *R1), "gradient of one"),
        (("model=d2gan", "objective.fake_weight=k"), r"objective\.fake_weight=k"),
    ],
)
def test_dual_and_their_loss_need_each_other(words, reason):
    with pytest.raises(ConfigError, match=reason):
        composed("data=ring", *words)
