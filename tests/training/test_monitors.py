import pytest
import torch
from torch import nn

from mixgan_cli.models.networks import build_networks
from mixgan_cli.training.callbacks import activation_stats
from tests.conftest import composed


def generator(*overrides):
    run = composed("model.k=2", "model.backbone.channels=2", *overrides)
    return build_networks(run.model, (1, 8, 8)).generator


@pytest.mark.parametrize("model", ["mggan", "madgan", "megan"])
def test_it_watches_and_changes_nothing(model):
    network = generator(f"model={model}")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert 0 < activation_stats(network)["active_neurons"] <= 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_units_that_never_fire_are_not_active():
    """Half of the first layer's units get a bias no latent can lift above zero."""
    network = generator("model=gan", "model.k=1", "model.backbone.generator_norm=none")
    experts = network.experts
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == 1  # at 8 pixels, the first layer's alone
    assert activation_stats(network)["active_neurons"] == 1
    with torch.no_grad():
        experts.bias_KH[:, ::2] = -1e3
    assert activation_stats(network)["active_neurons"] == 0.5


def test_a_tenth_of_the_batch_is_active():
    """A unit that fires with probability 0.05 counts as dead, one with 0.2 as active."""
    network = generator("model=gan", "model.k=1")
    with torch.no_grad():
        network.experts.weight_KZH.zero_()
        network.experts.weight_KZH[:, 0] = 1  # all units see the first latent, N(0, 1)
        network.experts.bias_KH[:, :64] = -1.645
        network.experts.bias_KH[:, 64:] = -0.842
    hidden = network.experts.bias_KH.shape[1]
    assert activation_stats(network, samples=10_000)["active_neurons"] == 1 - min(64, hidden) / hidden


def test_what_a_learned_gate_does_is_watched():
    network = generator("model=mog", "model.k=4")
    with torch.no_grad():
        network.gate.logits.weight.zero_()
        network.gate.logits.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
    assert activation_stats(network)["gate_usage"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert "gate_usage" not in activation_stats(generator("model=mggan"))
