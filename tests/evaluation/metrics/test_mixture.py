import math

import pytest
import torch

from mixgan_cli.evaluation.metrics.mixture import expert_usage, gate_entropy


def test_usage_and_entropy():
    assert expert_usage(torch.tensor([[1.0, 0.0], [0.5, 0.5]])) == [0.75, 0.25]
    assert gate_entropy(torch.full((10, 8), 1 / 8)) == pytest.approx(math.log(8))
    assert gate_entropy(torch.eye(8)) == 0.0
