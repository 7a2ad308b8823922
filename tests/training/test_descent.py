"""A step whose loss or gradient is not finite is left out, and nothing else changes."""

import copy

import pytest
import torch

from mixgan_cli.optim.optimizers import build_optimizer, load_optimizer
from mixgan_cli.training.step import optimizer_step

SETTINGS = {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": (0.5, 0.9), "amsgrad": True, "weight_decay": 0.01}


def start():
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    other = torch.nn.Parameter(torch.ones(2))
    return (
        parameter,
        other,
        {"one": build_optimizer(SETTINGS, [parameter], 1), "two": build_optimizer(SETTINGS, [other], 1)},
    )


def test_adam_is_the_formula():
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


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38])
def test_a_bad_step_is_left_out_whole(factor):
    """Also where one of two networks alone has a bad gradient: they move together or not at all."""
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


def test_a_bad_loss_with_a_finite_gradient_is_left_out_too():
    parameter, _, optimizers = start()
    before = parameter.detach().clone()
    bad = parameter.sum() + torch.tensor(float("inf"))
    assert optimizer_step([bad], {"one": optimizers["one"]}).skipped == 1 and torch.equal(parameter, before)


def test_a_state_goes_on_in_another_memory_format():
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
