import math
from types import SimpleNamespace

import pytest
import torch

from mixgan_cli.evaluation.metrics.mixture import ExpertPrior, expert_usage, gate_entropy


def test_usage_and_entropy():
    assert expert_usage(torch.tensor([[1.0, 0.0], [0.5, 0.5]])) == [0.75, 0.25]
    assert gate_entropy(torch.full((10, 8), 1 / 8)) == pytest.approx(math.log(8))
    assert gate_entropy(torch.eye(8)) == 0.0


def test_effective_experts_of_a_learned_prior():
    comparison = SimpleNamespace(prior_K=torch.tensor([0.5, 0.25, 0.25, 0.0]))
    values = ExpertPrior().compute(comparison, None)
    assert values["expert_prior"] == [0.5, 0.25, 0.25, 0.0]
    assert values["effective_experts"] == pytest.approx(2**1.5)  # an entropy of 1.5 bits
    assert not ExpertPrior().applies(SimpleNamespace(prior_K=None))
