"""MEGAN's load balance and the schedule of its weight."""

import numpy as np
import pytest
import torch

from mixgan_cli.objectives.regularizers import LoadBalance
from mixgan_cli.optim.schedules import Exponential

COUNTS = (2, 3, 10)


def constant(reduction="mean", counts="hard"):
    return LoadBalance(1.0, reduction, counts, rate=0.0, least=0.0, every=1)


def one_hot(k, *makers):
    return torch.eye(k, dtype=torch.double)[list(makers)]


@pytest.mark.parametrize("counts", ["hard", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("k", COUNTS)
def test_nothing_at_uniform_usage(k, reduction, counts):
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
    loss = LoadBalance(2.0, reduction, counts, rate=1e-4, least=1e-3, every=781)
    assert torch.autograd.gradcheck(lambda a, y: loss(a, y), (weights, relaxed))


def test_weight_decays():
    weight = LoadBalance(5.0, "sum", "hard", rate=1e-2, least=0.2, every=100).weight
    weights = [weight.at(t) for t in (0, 99, 100, 199, 200, 10_000)]
    assert weights == pytest.approx([5, 5, 5 / np.e, 5 / np.e, 5 / np.e**2, 0.2], rel=1e-12)


def test_weight_below_the_floor_is_not_raised_to_it():
    weight = LoadBalance(0.0, "sum", "hard", rate=1e-4, least=1e-3, every=781).weight
    assert [weight.at(t) for t in (0, 100_000)] == [0, 0]


TEMPERATURE = {"start": 1.0, "rate": 1e-4, "least": 0.01}


def test_schedule_of_the_released_code():
    """MEGAN's temperature at B = 64 on CIFAR-10, at whole epochs of 781 steps: the specification's figures."""
    schedule = Exponential(**TEMPERATURE, every=781)
    assert [schedule.at(t) for t in (0, 781, 7810)] == pytest.approx([1, 0.925, 0.458], abs=5e-4)
    assert schedule.at(59 * 781) == schedule.at(10**6) == 0.01  # 46,079
    assert schedule.at(58 * 781) == pytest.approx(np.exp(-4.5298), rel=1e-12)
    continuous = Exponential(**TEMPERATURE, every=1)
    assert continuous.at(20_000) == pytest.approx(0.135, abs=5e-4)


def test_schedule_stays_until_it_is_refreshed():
    schedule = Exponential(**TEMPERATURE, every=781)
    for epoch in range(70):
        steps = epoch * 781 + np.array([0, 1, 400, 780])
        values = {schedule.at(int(t)) for t in steps}
        assert len(values) == 1
        assert values.pop() == pytest.approx(max(0.01, np.exp(-1e-4 * 781 * epoch)), rel=1e-12)


def test_schedule_without_decay():
    schedule = Exponential(0.7, rate=0.0, least=0.0, every=1)
    assert [schedule.at(t) for t in (0, 1, 10**6)] == [0.7] * 3
