"""Schedules against their formulas, written out anew, and the trainer's use of them."""

import math

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.optim import BurnIn, Constant, Cosine, Exponential, Linear
from mixgan_cli.training.ema import MovingAverage

IMAGES = (0, 1, 250, 500, 999, 1000, 2000)


def test_constant_schedule_is_one_and_marked_constant():
    assert all(Constant().factor(nimg, 3) == 1 for nimg in IMAGES)
    assert Constant().constant and not Constant(warmup=10).constant


@pytest.mark.parametrize("schedule", [Constant(100), Linear(1000, warmup=100), Exponential(0.0, warmup=100)])
def test_warmup_grows_linearly_from_zero(schedule):
    plain = {"Constant": Constant(), "Linear": Linear(1000), "Exponential": Exponential(0.0)}[type(schedule).__name__]
    for nimg, ramp in {0: 0, 25: 0.25, 100: 1, 700: 1}.items():
        assert schedule.factor(nimg, 0) == pytest.approx(ramp * plain.factor(nimg, 0))


def test_linear_decay_reaches_final_at_the_end():
    schedule = Linear(1000, final=0.1, begin=200)
    assert [schedule.factor(nimg, 0) for nimg in (0, 200, 600, 1000, 5000)] == pytest.approx([1, 1, 0.55, 0.1, 0.1])
    assert schedule.depends_on_length and not Linear(1000, end=800).depends_on_length


def test_cosine_decay_is_the_papers():
    schedule = Cosine(1000, final=0.2)
    for nimg in (0, 100, 500, 900, 1000):
        assert schedule.factor(nimg, 0) == pytest.approx(0.2 + 0.5 * (1 - 0.2) * (1 + math.cos(nimg / 1000 * math.pi)))
    assert Cosine(1000, end=400).factor(700, 0) == 0


@pytest.mark.parametrize(("unit", "t"), [("images", 2500), ("steps", 25)])
def test_exponential_decay_is_updated_every_so_often(unit, t):
    schedule = Exponential(rate=0.01, minimum=0.0, every=10, unit=unit)
    assert schedule.factor(2500, 25) == math.exp(-0.01 * (t - t % 10))


def test_exponential_decay_stops_at_its_minimum():
    assert Exponential(rate=1.0, minimum=0.05).factor(1000, 0) == 0.05


def test_megans_temperature_is_that_of_its_released_code():
    """max(0.01, exp(-1e-4 t)), updated once an epoch of 781 steps."""
    schedule = Exponential(rate=1e-4, minimum=0.01, every=781, unit="steps")
    for step in (0, 780, 781, 1561, 1562, 100_000):
        assert schedule.factor(64 * step, step) == max(0.01, math.exp(-1e-4 * (step // 781 * 781)))


def test_decay_that_ends_before_it_begins_is_refused():
    with pytest.raises(ConfigError, match=r"schedule.begin=1000: must be less than the end of the decay, 1000 images"):
        Cosine(1000, begin=1000)


R3GAN_CIFAR10 = {  # images in millions: lr, gamma, β2, augment p, half-life, weight of the old average at batch 512
    0: (2e-4, 0.05, 0.9, 0.0, 0, 0.0),
    5: (1.7803e-4, 0.043410, 0.913180, 0.080546, 732_233, 0.999515447),
    10: (1.25e-4, 0.0275, 0.945, 0.275, 2_500_000, 0.999858054),
    15: (7.1967e-5, 0.011590, 0.976820, 0.469454, 4_267_767, 0.999916847),
    20: (5e-5, 0.005, 0.99, 0.55, 5_000_000, 0.999929024),
    200: (5e-5, 0.005, 0.99, 0.55, 5_000_000, 0.999929024),
}
"""The table of the specification, to the digits that it prints."""


@pytest.mark.parametrize("millions", R3GAN_CIFAR10)
def test_burn_in_has_the_values_of_r3gan(millions):
    nimg, end = millions * 10**6, 20_000_000
    falling = [BurnIn(250_000_000, 1.0, final, end=end).factor(nimg, 0) for final in (0.25, 0.1, 0.1)]
    rising = BurnIn(250_000_000, 0.0, 1.0, end=end)
    lr, gamma, complement = (base * factor for base, factor in zip((2e-4, 0.05, 0.1), falling, strict=True))
    average = MovingAverage(torch.nn.Linear(1, 1), 5_000_000, None, rising)
    half_life = 5_000_000 * rising.factor(nimg, 0)
    found = lr, gamma, 1 - complement, 0.55 * rising.factor(nimg, 0), half_life, average.decay(nimg, 512)
    digits = (5e-9, 5e-7, 5e-7, 5e-7, 0.5, 5e-10)
    for value, expected, tolerance in zip(found, R3GAN_CIFAR10[millions], digits, strict=True):
        assert value == pytest.approx(expected, rel=0, abs=tolerance)


def test_burn_in_starts_at_begin_and_ends_with_the_run_by_default():
    schedule = BurnIn(1000, initial=0.5, final=2.0, begin=200)
    assert [schedule.factor(nimg, 0) for nimg in (0, 200, 600, 1000, 5000)] == pytest.approx([0.5, 0.5, 1.25, 2, 2])
    assert schedule.depends_on_length and not BurnIn(1000, end=800).depends_on_length
