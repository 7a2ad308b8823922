"""WGAN's clipped weights: the bound after each step, the step itself, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.objectives.penalties import WeightClipping
from mixgan_cli.training.checks import check_networks
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_step
from tests.training.test_phases import COMPUTE, Fixed

POINTS = ("data=ring", "model=mggan", "model.k=2", "model.latent.size=3", "objective=wgan_clip")


def test_weights_and_biases_are_clamped():
    layer = nn.Linear(2, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.5], [0.01, -0.009]], dtype=torch.double))
        layer.bias.copy_(torch.tensor([0.02, 0.0], dtype=torch.double))
    WeightClipping(0.01).constrain(layer.parameters())
    assert layer.weight.tolist() == [[0.01, -0.01], [0.01, -0.009]] and layer.bias.tolist() == [0.01, 0.0]


def test_critic_step_is_rmsprop_then_the_clamp(double):
    """The critic's step recomputed with autograd and RMSprop written out, from weights beyond the bound."""
    run = composed(*POINTS, "objective.optimizer.discriminator.lr=0.3", "objective.classifier.weight=0")
    networks = build_networks(run.model, (2,))
    real = torch.randn(6, 2)
    phases = build_phases(run.objective, networks, Fixed(real), 6, COMPUTE)
    generator, critic = copy.deepcopy(networks)
    torch.manual_seed(5)
    fake = generator(phases.discriminator.context.latents()).samples.detach()
    loss = critic(fake).scores_N.mean() - critic(real).scores_N.mean()
    gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    torch.manual_seed(5)
    take_step(phases.discriminator)
    inside = 0
    for before, gradient, after in zip(
        critic.parameters(), gradients, networks.discriminator.parameters(), strict=True
    ):
        step = 0.3 * gradient / ((0.01 * gradient**2).sqrt() + 1e-8)
        expected = (before - step).clamp(-0.01, 0.01)
        torch.testing.assert_close(after, expected, atol=1e-12, rtol=1e-9)
        inside += (expected.abs() < 0.01).sum().item()
    assert inside


def test_generator_is_not_clamped():
    run = composed(*POINTS)
    networks = build_networks(run.model, (2,))
    phases = build_phases(run.objective, networks, Fixed(torch.randn(24, 2)), 24, COMPUTE)
    for phase in phases:
        take_step(phase)
    largest = [max(p.abs().max().item() for p in network.parameters()) for network in networks]
    assert largest[0] > 0.1 and largest[1] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.backbone.spectral_norm=true", r"model\.backbone\.spectral_norm=True"),
        ("+objective.penalty.schedule={_target_: mixgan_cli.optim.Linear}", r"objective\.penalty\.schedule"),
        ("objective.penalty.bound=0", r"objective\.penalty.*bound=0"),
    ],
)
def test_clipping_refuses_what_it_cannot_clip(override, key):
    with pytest.raises(ConfigError, match=key):
        composed(*POINTS, override)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_clipping_refuses_norms_of_images_critics(norm):
    words = ["model=gan", "objective=wgan_clip", f"model.backbone.discriminator_norm={norm}"]
    with pytest.raises(ConfigError, match=rf"model\.backbone\.discriminator_norm={norm}: .* Take "):
        composed(*words)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))])
def test_clipping_refuses_norms_of_any_backbone(layer):
    run = composed(*POINTS)
    networks = build_networks(run.model, (2,))
    check_networks(networks, run.objective, 24, None)
    networks.discriminator.body.append(layer)
    with pytest.raises(ConfigError, match=r"objective\.penalty: WeightClipping .* Take "):
        check_networks(networks, run.objective, 24, None)
