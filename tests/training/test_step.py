"""The optimiser step, skipped as a whole if it is not finite, and the statistics of steps."""

import copy
import math

import pytest
import torch

from mixgan_cli.optim.optimizers import build_optimizer, load_optimizer
from mixgan_cli.training.step import SKIPPED, Means, optimizer_step

SETTINGS = {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": (0.5, 0.9), "amsgrad": True, "weight_decay": 0.01}


def start():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    other = torch.nn.Parameter(torch.ones(2))
    return (
        parameter,
        other,
        {"one": build_optimizer(SETTINGS, [parameter], 1), "two": build_optimizer(SETTINGS, [other], 1)},
    )


def test_adam_equals_the_formula():
    """Kingma & Ba's steps with AMSGrad and L2 in the gradient, written out in float64."""
    parameter, _, optimizers = start()
    theta, m, v, most = [parameter.detach().double(), *torch.zeros(3, 3, dtype=torch.float64)]
    for t in range(1, 5):
        assert optimizer_step([(parameter**2).sum() * t], {"one": optimizers["one"]}).skipped == 0
        g = 2 * theta * t + 0.01 * theta
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
        most = torch.maximum(most, v)
        theta = theta - 0.1 / (1 - 0.5**t) * m / ((most / (1 - 0.9**t)).sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach(), theta.float())


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38, 1e24])
def test_non_finite_step_changes_nothing(factor):
    """Also if only one of two networks has a bad gradient: both take the step, or neither does.

    The square of 1e25 is not finite: one such step would leave Adam's second moment infinite, and the weight fixed.
    """
    parameter, other, optimizers = start()
    optimizer_step([(parameter**2).sum() + other.sum()], optimizers)
    before = copy.deepcopy([parameter.detach(), other.detach(), *(o.state_dict() for o in optimizers.values())])
    assert optimizer_step([(parameter * factor * 10).sum() + other.sum()], optimizers).skipped == 1
    after = [parameter.detach(), other.detach(), *(o.state_dict() for o in optimizers.values())]
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    for one, two in zip(before[2:], after[2:], strict=True):
        for name, value in one["state"][0].items():
            assert torch.equal(value, two["state"][0][name]), name
    optimizer_step([(parameter**2).sum() + other.sum()], optimizers)
    assert not torch.equal(parameter, before[0]) and parameter.isfinite().all()


def test_non_finite_loss_with_finite_gradient_is_skipped():
    parameter, _, optimizers = start()
    before = parameter.detach().clone()
    bad = parameter.sum() + torch.tensor(float("inf"))
    assert optimizer_step([bad], {"one": optimizers["one"]}).skipped == 1 and torch.equal(parameter, before)


def test_optimizer_state_loads_in_another_memory_format():
    first, second = torch.nn.Conv2d(5, 4, 3), torch.nn.Conv2d(5, 4, 3)
    one, other = (build_optimizer(SETTINGS, network.parameters(), 1) for network in (first, second))
    images = torch.randn(2, 5, 6, 6)
    optimizer_step([first(images).square().sum()], {"one": one})
    second.load_state_dict(first.state_dict())
    second.to(memory_format=torch.channels_last)
    load_optimizer(other, copy.deepcopy(one.state_dict()))
    optimizer_step([first(images).square().sum()], {"one": one})
    optimizer_step([second(images).square().sum()], {"other": other})
    torch.testing.assert_close(first.weight, second.weight, rtol=1e-4, atol=1e-5)


# Statistics


def scalars_of(loss, skipped, **others):
    scalars = {"loss/generator": torch.tensor(loss), **{name: torch.tensor(value) for name, value in others.items()}}
    return {**scalars, SKIPPED: torch.tensor(float(skipped))}


def test_means_are_since_the_last_reading():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add(scalars_of(value, 0, extra=-value))
    means.add({"loss/discriminator": torch.tensor(5.0), SKIPPED: torch.tensor(0.0)})
    assert means.read() == ({"loss/generator": 3.0, "extra": -3.0, "loss/discriminator": 5.0}, 0, 0, 0)
    means.add(scalars_of(7.0, 0))
    assert means.read().means == {"loss/generator": 7.0} and means.read() == ({}, 0, 0, 0)


def test_non_finite_values_are_left_out_and_counted():
    means = Means()
    for value, skipped in ((1.0, 0), (math.nan, 1), (math.inf, 1), (3.0, 0), (math.nan, 1)):
        means.add(scalars_of(value, skipped))
    assert means.read() == ({"loss/generator": 2.0}, 3, 2, 1)
    means.add(scalars_of(math.nan, 1))  # the run of skipped steps continues
    stats = means.read()
    assert math.isnan(stats.means["loss/generator"]) and stats.skipped == 1 and stats.longest == stats.current == 2


@pytest.mark.parametrize("value", [3e38, -3e38, math.inf, -math.inf, math.nan])
def test_only_infinite_values_and_nan_are_left_out_of_means(value):
    means = Means()
    means.add(scalars_of(value, 0))
    mean, number = means.read().means["loss/generator"], float(torch.tensor(value))
    assert mean == number if math.isfinite(value) else math.isnan(mean)


def test_runs_of_skipped_steps_are_per_phase():
    """A generator whose steps are taken must not hide a discriminator whose steps are skipped."""
    means = Means()
    for _ in range(4):
        means.add({"loss/discriminator": torch.tensor(math.nan), SKIPPED: torch.tensor(1.0)})
        means.add(scalars_of(1.0, 0))
    assert means.read()[1:] == (4, 4, 4)


def test_statistics_resume_from_a_checkpoint():
    whole, parts = Means(), Means()
    for value, skipped in ((1.0, 0), (math.nan, 1)):
        whole.add(scalars_of(value, skipped))
        parts.add(scalars_of(value, skipped))
    older = parts.state() | {
        "runs": {phase: torch.cat((torch.ones(1), run)) for phase, run in parts.state()["runs"].items()}
    }
    resumed, of_older_version = Means(), Means()
    resumed.load_state(copy.deepcopy(parts.state()), torch.device("cpu"))
    of_older_version.load_state(copy.deepcopy(older), torch.device("cpu"))
    for means in (whole, resumed, of_older_version):
        means.add(scalars_of(5.0, 1))
        assert means.read() == ({"loss/generator": pytest.approx(3.0)}, 2, 2, 2)
