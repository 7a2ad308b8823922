"""What saves kernels on a GPU computes the same: one pass of real and fake, counters and statistics together."""

import pytest
import torch
from torch import nn

from mixgan_cli.config.compose import groups
from mixgan_cli.models.gates import TreeGate
from mixgan_cli.models.layers import BatchNorm2d, passes_counted_together
from mixgan_cli.models.networks import Discriminator
from mixgan_cli.training import loop
from tests.training.test_iteration import begun


def tensors(state):
    return {
        f"{n} {name}": value for n, network in enumerate(state.networks) for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", ["hmog", "megan", "mog, fewer fakes than reals"])
def test_real_and_fake_in_one_pass_train_the_same(name):
    """To the rounding of sums over the batch, which Adam enlarges: it divides small gradients by their size."""
    states = [begun(name), begun(name)]
    assert states[0].networks.discriminator.per_sample
    states[1].phases.discriminator.one_pass = True
    for state in states:
        for _ in range(3):
            loop.iterate(state, 0)
    alone, together = map(tensors, states)
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, rtol=1e-3, atol=1e-4)
    means = [state.means.read().means for state in states]
    assert means[1] == pytest.approx(means[0], rel=1e-4, abs=1e-5)


class OverTheBatch(nn.Module):
    def forward(self, samples):
        return samples - samples.mean(dim=0)


@pytest.mark.parametrize("model", groups()["model"])
def test_only_discriminators_without_batch_norm_are_per_sample(model):
    discriminator = begun(model).networks.discriminator
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in discriminator.modules())
    assert discriminator.per_sample is not normed


def test_layers_of_users_dropout_and_spectral_norm_are_not_known_to_be_per_sample():
    head = begun("hmog").networks.discriminator.head
    assert Discriminator(nn.Sequential(nn.Flatten()), head).per_sample
    for layer in (OverTheBatch(), nn.Dropout(0.1), nn.BatchNorm1d(3, track_running_stats=False)):
        assert not Discriminator(nn.Sequential(nn.Flatten(), layer), head).per_sample
    assert not begun("gan, spectral norm").networks.discriminator.per_sample


def test_passes_are_counted_at_the_end_of_the_block():
    norm, other = BatchNorm2d(3), BatchNorm2d(3)
    images, outputs = torch.randn(4, 3, 2, 2), []
    with passes_counted_together():
        for _ in range(2):
            outputs.append(norm(images))
        norm.eval()(images)
        other(images)
        assert norm.num_batches_tracked == 0
    assert (norm.num_batches_tracked, other.num_batches_tracked) == (2, 1)
    assert torch.equal(outputs[0], nn.BatchNorm2d(3)(images))
    torch.testing.assert_close(norm.running_mean, other.running_mean * 1.9)
    norm.train()(images)
    assert norm.num_batches_tracked == 3


def test_tree_gate_multiplies_the_shares_along_each_path():
    gate, latents = TreeGate(8, 4, dropout=0.0), torch.randn(5, 4)
    left = gate.splits(latents).sigmoid()
    for leaf, weight in enumerate(gate(latents).T):
        node, expected = 0, torch.ones(5)
        for turn in f"{leaf:03b}":
            share = left[:, node]
            expected = expected * (share if turn == "0" else 1 - share)
            node = 2 * node + (1 if turn == "0" else 2)
        assert torch.equal(weight, expected)
