"""Random numbers are functions of a seed."""

import torch

from mixgan_cli.runtime.random import derive_seed, seed_step


def test_step_draws_the_numbers_of_torchs_manual_seed():
    seed_step("step", 3, 17)
    drawn = torch.randn(5)
    torch.manual_seed(derive_seed("step", 3, 17))
    assert torch.equal(drawn, torch.randn(5))
