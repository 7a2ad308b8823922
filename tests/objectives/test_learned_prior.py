"""The terms of a learned prior, compared with the oracles of DMGAN-PL's equations and with numpy."""

import math

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.prior import PriorGate
from mixgan_cli.objectives.terms import LearnedPrior, PriorEntropy
from mixgan_cli.optim.optimizers import build_schedule
from tests.conftest import composed

POSTERIOR = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]], dtype=torch.double)


def of_logits(term, *logits):
    """The value of a term for the gate `prior` with these logits, and its gradient."""
    gate = PriorGate(len(logits)).double()
    with torch.no_grad():
        gate.logits_K.copy_(torch.tensor(logits, dtype=torch.double))
    value = term(*gate.weights(torch.zeros(7, 1, dtype=torch.double), None, None), POSTERIOR)
    value.backward()
    return value.item(), gate.logits_K.grad.tolist()


@pytest.mark.parametrize(
    ("logits", "value", "gradient"),
    [
        ((0.0, 0.0, 0.0), 0.366204, (-0.122222, 0.044444, 0.077778)),
        ((1.0, 0.0, -1.0), 0.269202, (-0.011586, 0.014909, -0.003323)),
    ],
)
def test_cross_entropy_equals_the_published_formula(logits, value, gradient):
    got, got_gradient = of_logits(LearnedPrior(1.0), *logits)
    assert got == pytest.approx(value, abs=1e-6) and got_gradient == pytest.approx(gradient, abs=1e-6)
    log_prior = np.array(logits) - np.log(np.exp(logits).sum())
    assert got == pytest.approx(-(POSTERIOR.numpy() * log_prior).mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("logits", "value", "gradient"),
    [((0.0, 0.0, 0.0), 1.098612, (0.0, 0.0, 0.0)), ((1.0, 0.0, -1.0), 0.832396, (0.282587, -0.140770, -0.141817))],
)
def test_entropy_equals_the_published_formula(logits, value, gradient):
    got, got_gradient = of_logits(PriorEntropy(1.0), *logits)
    assert got == pytest.approx(-value, abs=1e-6) and got_gradient == pytest.approx(gradient, abs=1e-6)


def test_prior_moves_to_the_mean_posterior():
    gate = PriorGate(3).double()
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        LearnedPrior(1.0)(*gate.weights(torch.zeros(2, 1, dtype=torch.double), None, None), POSTERIOR).backward()
        optimizer.step()
    torch.testing.assert_close(gate.expert_prior().detach(), POSTERIOR.mean(dim=0), atol=1e-4, rtol=0)


def test_unused_expert_keeps_the_terms_finite():
    relaxed = torch.tensor([[1.0, 0.0, 0.0]]).requires_grad_()
    total = LearnedPrior(1.0)(relaxed, relaxed, POSTERIOR.float()) + PriorEntropy(1.0)(relaxed, relaxed)
    total.backward()
    assert total.isfinite() and relaxed.grad.isfinite().all()


@pytest.mark.parametrize(("step", "weight"), [(0, 1000.0), (1, 999.0), (6904, 1.0), (11507, 0.01)])
def test_weight_of_the_entropy_by_generator_step(step, weight):
    node = composed("model=dmgan", "data=ring").objective.terms["prior_entropy"]
    factor = build_schedule(node, nimg=1).factor(nimg=10**6, step=step)
    assert node["weight"] * factor == pytest.approx(1000 * 0.999**step, rel=1e-9)
    assert node["weight"] * factor == pytest.approx(weight, rel=2e-3)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model/head=score", r"objective\.terms\.prior: asks a classifier .* ScoreHead has none"),
        ("model.head.form=pairwise", r"model\.head\.form=pairwise: .* needs a softmax"),
        ("model/gate=uniform", "learns nothing"),
        ("objective.optimizer.balance=null", "no optimiser"),
    ],
)
def test_prior_needs_a_classifier_and_a_trained_gate(override, reason):
    beta = ["model.beta=0"] if "score" in override else []
    with pytest.raises(ConfigError, match=reason):
        composed("model=dmgan", "data=ring", override, *beta)


def test_soft_gate_can_learn_a_prior():
    """Its mean weights over the batch take the place of r."""
    relaxed = torch.randn(6, 3).double().softmax(dim=1)
    share = relaxed.mean(dim=0).numpy()
    value = LearnedPrior(1.0)(relaxed, relaxed, POSTERIOR).item()
    assert value == pytest.approx(-(POSTERIOR.numpy().mean(axis=0) * np.log(share)).sum() / 3, rel=1e-12)
    assert PriorEntropy(1.0)(relaxed, relaxed).item() == pytest.approx(sum(p * math.log(p) for p in share), rel=1e-12)
