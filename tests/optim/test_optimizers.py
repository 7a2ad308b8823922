"""Optimisers built from the configuration: torch's own steps, skipped steps, schedules, and loading."""

import copy

import pytest
import torch
from torch import nn

from mixgan_cli.optim.optimizers import (
    BETA2,
    LEARNING_RATE,
    build_optimizer,
    load_optimizer,
    schedules_of,
    set_scheduled,
    step_unless,
)

NAMES = ("Adam", "AdamW", "SGD", "RMSprop", "RAdam", "NAdam", "Adagrad", "Adadelta", "Adamax")
EXTRA = {"SGD": {"momentum": 0.9}, "Adam": {"amsgrad": True}}
FINITE, BROKEN = torch.tensor(0.0), torch.tensor(1.0)


def settings(name, **extra):
    return {"_target_": f"torch.optim.{name}", "lr": 0.01, **EXTRA.get(name, {}), **extra}


def parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4))]


def with_gradients(values, number):
    generator = torch.Generator().manual_seed(number)
    for value in values:
        value.grad = torch.randn(value.shape, generator=generator)
    return values


def check_equal_steps(optimizer, ours, reference, theirs, steps, **tolerance):
    for number in range(steps):
        with_gradients(ours, number), with_gradients(theirs, number)
        step_unless(optimizer, FINITE)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_steps_equal_those_of_torch(name):
    ours, theirs = parameters(), parameters()
    optimizer = build_optimizer(settings(name), ours, nimg=1000)
    reference = getattr(torch.optim, name)(theirs, lr=0.01, **EXTRA.get(name, {}))
    check_equal_steps(optimizer, ours, reference, theirs, steps=4, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [0, 2])
def test_a_skipped_step_changes_nothing(name, before):
    values = parameters()
    optimizer = build_optimizer(settings(name), values, nimg=1000)
    for number in range(before):
        step_unless(optimizer, FINITE) if with_gradients(values, number) else None
    kept, state = [value.detach().clone() for value in values], copy.deepcopy(optimizer.state_dict()["state"])
    for value in values:
        value.grad = torch.full_like(value, torch.nan)
    step_unless(optimizer, BROKEN)
    assert all(torch.equal(value, old) for value, old in zip(values, kept, strict=True))
    for number, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                old = state[number][key] if before else torch.zeros_like(value)
                assert torch.equal(value, old), key


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop"])
def test_scheduled_rate_equals_torchs_lambda_lr(name):
    node = {"_target_": "mixgan_cli.optim.Linear"}
    ours, theirs = parameters(), parameters()
    optimizer = build_optimizer(settings(name, schedule=node), ours, nimg=80)
    reference = getattr(torch.optim, name)(theirs, lr=0.01, **EXTRA.get(name, {}))
    scheduler = torch.optim.lr_scheduler.LambdaLR(reference, lambda step: 1 - step / 8)
    for step in range(8):
        with_gradients(ours, step), with_gradients(theirs, step)
        set_scheduled(optimizer, LEARNING_RATE, torch.tensor(optimizer.schedule.factor(10 * step, step)))
        step_unless(optimizer, FINITE)
        reference.step()
        scheduler.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_constant_schedule_keeps_the_rate_a_number():
    optimizer = build_optimizer(settings("Adam", schedule={"_target_": "mixgan_cli.optim.Constant"}), parameters(), 10)
    assert optimizer.param_groups[0]["lr"] == 0.01 and not hasattr(optimizer, "schedule")


@pytest.mark.parametrize("name", NAMES)
def test_loaded_optimizer_continues_exactly(name):
    node = {"_target_": "mixgan_cli.optim.Cosine"}
    whole, first = parameters(), parameters()
    optimizer = build_optimizer(settings(name, schedule=node), whole, nimg=60)
    for step in range(6):
        set_scheduled(optimizer, LEARNING_RATE, torch.tensor(optimizer.schedule.factor(10 * step, step)))
        with_gradients(whole, step)
        step_unless(optimizer, FINITE)
    half = build_optimizer(settings(name, schedule=node), first, nimg=60)
    for step in range(3):
        set_scheduled(half, LEARNING_RATE, torch.tensor(half.schedule.factor(10 * step, step)))
        with_gradients(first, step)
        step_unless(half, FINITE)
    second = [nn.Parameter(value.detach().clone()) for value in first]
    resumed = build_optimizer(settings(name, schedule=node), second, nimg=60)
    load_optimizer(resumed, copy.deepcopy(half.state_dict()))
    for step in range(3, 6):
        set_scheduled(resumed, LEARNING_RATE, torch.tensor(resumed.schedule.factor(10 * step, step)))
        with_gradients(second, step)
        step_unless(resumed, FINITE)
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


def test_state_follows_the_memory_format_of_its_parameter():
    saved = build_optimizer(settings("Adam"), [value := nn.Parameter(torch.randn(2, 3, 4, 4))], 10)
    with_gradients([value], 0)
    step_unless(saved, FINITE)
    now = nn.Parameter(value.detach().to(memory_format=torch.channels_last))
    loaded = build_optimizer(settings("Adam"), [now], 10)
    load_optimizer(loaded, saved.state_dict())
    assert loaded.state[now]["exp_avg"].is_contiguous(memory_format=torch.channels_last)


def test_loaded_learning_rate_is_on_the_parameters_device():
    """Checkpoints are read to the CPU; here the parameters are on a device without memory."""
    node = settings("RMSprop", schedule={"_target_": "mixgan_cli.optim.Linear"})
    saved = build_optimizer(node, parameters(), nimg=80)
    loaded = build_optimizer(node, [nn.Parameter(torch.empty(3, device="meta"))], nimg=80)
    state = saved.state_dict()
    state["param_groups"][0]["params"] = [0]
    load_optimizer(loaded, state)
    assert loaded.param_groups[0]["lr"].device == torch.device("meta")


# Adam with a schedule of its second decay rate

OURS = {"_target_": "mixgan_cli.optim.Adam", "lr": 0.01, "betas": (0.0, 0.9)}
RISING = {"_target_": "mixgan_cli.optim.BurnIn", "initial": 1.0, "final": 0.1, "end": 40}


def adams_formula(values, gradients, betas2, beta1=0.0, lr=0.01, eps=1e-8):
    """Kingma & Ba's steps in float64; the bias correction takes the β2 of the step and the number of all steps."""
    values = [value.detach().double() for value in values]
    means, squares = ([torch.zeros_like(value) for value in values] for _ in range(2))
    for number, (gradient, beta2) in enumerate(zip(gradients, betas2, strict=True), start=1):
        for value, mean, square, g in zip(values, means, squares, gradient, strict=True):
            mean.mul_(beta1).add_((1 - beta1) * g)
            square.mul_(beta2).add_((1 - beta2) * g * g)
            value -= lr * mean / (1 - beta1**number) / ((square / (1 - beta2**number)).sqrt() + eps)
    return values


@pytest.mark.parametrize("beta1", [0.0, 0.5])
def test_scheduled_beta2_equals_the_formula(beta1):
    ours, gradients, betas2 = parameters(), [], []
    optimizer = build_optimizer({**OURS, "betas": (beta1, 0.9), "beta2_schedule": RISING}, ours, nimg=80)
    start = [value.detach().clone() for value in ours]
    for step in range(6):
        factor = schedules_of(optimizer)[BETA2].factor(10 * step, step)
        set_scheduled(optimizer, BETA2, torch.tensor(factor))
        gradients.append([value.grad.double() for value in with_gradients(ours, step)])
        betas2.append(1 - 0.1 * factor)
        step_unless(optimizer, FINITE)
    assert betas2[0] == pytest.approx(0.9) and betas2[4] == betas2[5] == pytest.approx(0.99)
    for mine, exact in zip(ours, adams_formula(start, gradients, betas2, beta1), strict=True):
        torch.testing.assert_close(mine.detach().double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_our_adam_without_a_schedule_equals_torchs(beta1):
    ours, theirs = parameters(), parameters()
    optimizer = build_optimizer({**OURS, "betas": (beta1, 0.99)}, ours, nimg=80)
    reference = torch.optim.Adam(theirs, lr=0.01, betas=(beta1, 0.99))
    assert schedules_of(optimizer) == {}
    check_equal_steps(optimizer, ours, reference, theirs, steps=5, rtol=1e-5, atol=1e-6)


def test_loaded_state_of_our_adam_is_on_the_parameters_device():
    """Also the number of steps, for which each step would wait; here the device has no memory."""
    values = parameters()[:1]
    saved = build_optimizer({**OURS, "betas": (0.5, 0.9)}, values, nimg=80)
    with_gradients(values, 0)
    step_unless(saved, FINITE)
    now = nn.Parameter(torch.empty(3, 4, device="meta"))
    loaded = build_optimizer({**OURS, "betas": (0.5, 0.9)}, [now], nimg=80)
    load_optimizer(loaded, saved.state_dict())
    assert {name: value.device.type for name, value in loaded.state[now].items()} == dict.fromkeys(
        ("step", "exp_avg_sq", "exp_avg"), "meta"
    )


def test_skipped_step_of_our_adam_changes_nothing():
    values = parameters()
    optimizer = build_optimizer(OURS, values, nimg=80)
    step_unless(optimizer, FINITE) if with_gradients(values, 0) else None
    kept, state = [value.detach().clone() for value in values], copy.deepcopy(optimizer.state_dict()["state"])
    for value in values:
        value.grad = torch.full_like(value, torch.nan)
    step_unless(optimizer, BROKEN)
    assert all(torch.equal(value, old) for value, old in zip(values, kept, strict=True))
    for number, entries in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, state[number][key]) for key, value in entries.items())


def test_loaded_adam_continues_exactly_in_the_middle_of_its_schedules():
    node = {**OURS, "beta2_schedule": RISING, "schedule": {**RISING, "final": 0.25}}

    def run(optimizer, values, steps):
        for step in steps:
            for what, schedule in schedules_of(optimizer).items():
                set_scheduled(optimizer, what, torch.tensor(schedule.factor(10 * step, step)))
            with_gradients(values, step)
            step_unless(optimizer, FINITE)
        return values

    whole = run(build_optimizer(node, values := parameters(), 80), values, range(6))
    half = build_optimizer(node, first := parameters(), 80)
    second = [nn.Parameter(value.detach().clone()) for value in run(half, first, range(2))]
    resumed = build_optimizer(node, second, 80)
    load_optimizer(resumed, copy.deepcopy(half.state_dict()))
    run(resumed, second, range(2, 6))
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))
