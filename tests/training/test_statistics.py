import math

import pytest
import torch

from mixgan_cli.training.step import SKIPPED, Means


def step(loss, skipped, **others):
    scalars = {"loss/generator": torch.tensor(loss), **{name: torch.tensor(value) for name, value in others.items()}}
    return {**scalars, SKIPPED: torch.tensor(float(skipped))}


def test_means_since_the_last_reading():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add(step(value, 0, extra=-value))
    means.add({"loss/discriminator": torch.tensor(5.0), SKIPPED: torch.tensor(0.0)})
    assert means.read() == ({"loss/generator": 3.0, "extra": -3.0, "loss/discriminator": 5.0}, 0, 0, 0)
    means.add(step(7.0, 0))
    assert means.read().means == {"loss/generator": 7.0} and means.read() == ({}, 0, 0, 0)


def test_what_is_not_finite_is_left_out_and_counted():
    means = Means()
    for value, skipped in ((1.0, 0), (math.nan, 1), (math.inf, 1), (3.0, 0), (math.nan, 1)):
        means.add(step(value, skipped))
    assert means.read() == ({"loss/generator": 2.0}, 3, 2, 1)
    means.add(step(math.nan, 1))  # the row that was begun before goes on
    stats = means.read()
    assert math.isnan(stats.means["loss/generator"]) and stats.skipped == 1 and stats.longest == stats.current == 2


def test_a_row_is_of_one_phase():
    """A generator that goes on must not hide a discriminator that does not."""
    means = Means()
    for _ in range(4):
        means.add({"loss/discriminator": torch.tensor(math.nan), SKIPPED: torch.tensor(1.0)})
        means.add(step(1.0, 0))
    assert means.read()[1:] == (4, 4, 4)


def test_the_state_goes_on_where_it_was():
    whole, parts = Means(), Means()
    for value, skipped in ((1.0, 0), (math.nan, 1)):
        whole.add(step(value, skipped))
        parts.add(step(value, skipped))
    resumed = Means()
    resumed.load_state(parts.state(), torch.device("cpu"))
    for means in (whole, resumed):
        means.add(step(5.0, 1))
    assert whole.read() == resumed.read() == ({"loss/generator": pytest.approx(3.0)}, 2, 2, 2)
