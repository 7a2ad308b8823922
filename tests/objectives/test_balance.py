"""MEGAN's load balance and the schedule of its weight."""

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.objectives.terms import LoadBalance
from tests.conftest import composed

COUNTS = (2, 3, 10)


def constant(reduction="mean", counts="hard"):
    return LoadBalance(1.0, reduction, counts)


def one_hot(k, *makers):
    return torch.eye(k, dtype=torch.double)[list(makers)]


@pytest.mark.parametrize("counts", ["hard", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("k", COUNTS)
def test_balance_is_zero_at_uniform_usage(k, reduction, counts):
    """By equal counts, and by gates that weigh all experts the same."""
    for weights in (one_hot(k, *range(k), *range(k)), torch.full((4, k), 1 / k, dtype=torch.double)):
        value = constant(reduction, counts)(weights, weights)
        assert value.item() == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("k", COUNTS)
def test_total_collapse(k):
    """(n - 1) / n² as a mean over experts (released code), n times that as a sum (paper)."""
    weights = one_hot(k, *[k - 1] * 6)
    assert constant("mean")(weights, weights).item() == pytest.approx((k - 1) / k**2, rel=1e-12)
    assert constant("sum")(weights, weights).item() == pytest.approx((k - 1) / k, rel=1e-12)


@pytest.mark.parametrize("counts", ["hard", "soft"])
def test_counts(counts):
    """Shares 1/4, 3/4, 0 by choice and by relaxed weights of their own: each takes its argument and no other."""
    hard = one_hot(3, 1, 0, 1, 1).requires_grad_()
    soft = torch.randn(4, 3).double().softmax(dim=1).requires_grad_()
    value = constant("sum", counts)(hard, soft)
    share = [0.25, 0.75, 0.0] if counts == "hard" else [sum(row[k].item() for row in soft) / 4 for k in range(3)]
    assert value.item() == pytest.approx(sum((p - 1 / 3) ** 2 for p in share), rel=1e-12)
    value.backward()
    taken, other = (hard, soft) if counts == "hard" else (soft, hard)
    assert other.grad is None
    np.testing.assert_allclose(taken.grad.numpy(), np.tile(2 * (np.array(share) - 1 / 3) / 4, (4, 1)), atol=1e-15)


def test_hard_counts_have_the_relaxed_weights_gradient():
    """Straight through: d/dl of one-hot counts is 2 (p - 1/K) / B · dy/dl, p the hard share and y the softmax."""
    logits = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    relaxed = logits.softmax(dim=1)
    chosen = one_hot(3, *relaxed.argmax(dim=1).tolist())
    constant("sum")(chosen + relaxed - relaxed.detach(), relaxed).backward()
    y, share = relaxed.detach().numpy(), chosen.numpy().mean(axis=0)
    upstream = 2 * (share - 1 / 3) / 5
    expected = [(np.diag(row) - np.outer(row, row)) @ upstream for row in y]
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("counts", ["hard", "soft"])
def test_gradients(counts, reduction):
    weights = torch.randn(4, 3).double().softmax(dim=1).requires_grad_()
    relaxed = torch.randn(4, 3).double().softmax(dim=1).requires_grad_()
    loss = LoadBalance(2.0, reduction, counts)
    assert torch.autograd.gradcheck(lambda a, y: loss(a, y), (weights, relaxed))


def test_balance_of_a_learned_prior_needs_soft_counts():
    """The experts that the gate draws have no gradient; their distribution has."""
    words = ["model=mog", "model/gate=prior", "data=ring", "objective=megan"]
    with pytest.raises(ConfigError, match=r"objective\.terms\.balance\.counts=hard: .* Take soft"):
        composed(*words)
    assert composed(*words, "objective.terms.balance.counts=soft").objective.terms["balance"]["counts"] == "soft"
