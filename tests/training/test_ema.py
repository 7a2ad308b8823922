import pytest
import torch
from torch import nn

from mixgan_cli.training.ema import MovingAverage


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_average_follows_with_the_half_life():
    follower, leader = network(), network()
    ema = MovingAverage(follower, half_life_nimg=100, ramp_up=None)
    start = follower[0].weight.clone()
    for step in range(10):
        ema.update(leader, ema.weight(nimg=10 * (step + 1), shown=10))  # 100 images in all: half way
    torch.testing.assert_close(ema.average[0].weight, (start + leader[0].weight) / 2)


def test_ramp_up_forgets_the_initial_weights():
    ema = MovingAverage(network(), half_life_nimg=10_000, ramp_up=0.05)
    assert ema.decay(nimg=1_000, shown=50) == pytest.approx(0.5)
    assert ema.decay(nimg=10_000_000, shown=10_000) == pytest.approx(0.5)


def test_batch_norm_statistics_are_averaged_counters_copied():
    ema, leader = MovingAverage(network(), 100, None), network()
    leader(torch.randn(50, 3) + 2)
    ema.update(leader, ema.weight(100, 100))  # half way, from 0
    torch.testing.assert_close(ema.average[1].running_mean, leader[1].running_mean / 2)
    assert ema.average[1].num_batches_tracked == 1


def test_zero_half_life_uses_the_network_itself():
    """The average is the network in another mode: it has the network's numbers and no memory of its own."""
    leader = network()
    ema = MovingAverage(leader, 0, 0.05)
    with torch.no_grad():
        leader[0].weight += 1
    leader(torch.randn(50, 3) + 2)
    ema.update(leader, ema.weight(10, 10))
    for mine, its in zip(ema.average.state_dict().values(), leader.state_dict().values(), strict=True):
        assert torch.equal(mine, its) and mine.data_ptr() == its.data_ptr()
    assert leader.training and not ema.average.training
    assert all(p.requires_grad for p in leader.parameters()) and not any(
        p.requires_grad for p in ema.average.parameters()
    )


def test_average_is_a_frozen_copy():
    leader = network()
    ema = MovingAverage(leader, 100, None)
    with torch.no_grad():
        leader[0].weight += 1
    assert not torch.equal(ema.average[0].weight, leader[0].weight)
    assert not ema.average.training and not any(p.requires_grad for p in ema.average.parameters())
