import math

import pytest
import torch

from mixgan_cli.training.statistics import Means


def test_means_since_the_last_reading():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value, requires_grad=True)})
    means.add({"b": torch.tensor(5.0)})
    assert means.read() == {"a": pytest.approx(3.0), "b": pytest.approx(5.0)}
    assert means.read() == {}


def test_not_a_number_is_not_lost():
    means = Means()
    means.add({"a": torch.tensor(math.nan)})
    means.add({"a": torch.tensor(1.0)})
    assert math.isnan(means.read()["a"])
