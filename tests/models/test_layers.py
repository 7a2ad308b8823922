import torch
from torch import nn

from mixgan_cli.models.layers import forward_frozen_bn


def test_forward_frozen_bn_keeps_running_statistics():
    network, batch = nn.BatchNorm1d(3), torch.randn(50, 3) + 5
    seen = forward_frozen_bn(network, batch)
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert not network.running_mean.any() and network.num_batches_tracked == 0 and not seen.requires_grad
    network(batch)
    assert network.running_mean.any()
