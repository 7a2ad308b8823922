"""Fixtures of several tests of training."""

import pytest
import torch


@pytest.fixture
def double():
    """Compute in float64, to compare with recomputations by hand."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
