"""Unrolled GAN: the unrolled steps, compared with torch's optimisers; the generator's gradient through them."""

import copy

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.objectives.unrolling import Unrolling
from mixgan_cli.training.checks import check_ranks
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_step
from tests.training.test_phases import COMPUTE, Fixed

POINTS = (
    "data=ring",
    "objective=unrolled",
    "model.latent.size=3",
    "model.backbone.generator_widths=[4]",
    "model.backbone.discriminator_widths=[5]",
    "objective.optimizer.discriminator.lr=0.05",
)
SGD = ("objective.unroll.rule=sgd", "objective.unroll.lr=0.2")


def game(*overrides):
    run = composed("model=mog", "model.k=2", *POINTS, *overrides)
    networks, real = build_networks(run.model, (2,)), torch.randn(6, 2)
    for parameter in networks.discriminator.parameters():  # not at a kink of a ReLU
        torch.nn.init.normal_(parameter, std=0.5)
    return networks, real, build_phases(run.objective, networks, Fixed(real), 6, COMPUTE)


def minimax(discriminator, real, fake):
    """The discriminator's loss, written out."""
    real_N, fake_N = discriminator(real).scores_N, discriminator(fake).scores_N
    return (1 + (-real_N).exp()).log().mean() + (1 + fake_N.exp()).log().mean()


def ahead(discriminator, optimizer, real, fake, steps):
    """The discriminator after ordinary steps of a torch optimiser."""
    for _ in range(steps):
        optimizer.zero_grad()
        minimax(discriminator, real, fake).backward()
        optimizer.step()
    return discriminator


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("steps", [1, 4])
def test_unrolled_steps_are_those_of_the_optimiser(double, rule, steps):
    networks, real, phases = game(f"objective.unroll.steps={steps}", *(SGD if rule == "sgd" else ()))
    take_step(phases.discriminator)  # Adam has a state
    latent_BZ = phases.generator.context.latents()
    fake = networks.generator(latent_BZ).samples
    reached = phases.generator.unroll(real, fake, None).networks.discriminator
    expected = copy.deepcopy(networks.discriminator)
    if rule == "sgd":
        optimizer = torch.optim.SGD(expected.parameters(), lr=0.2)
    else:
        own = phases.optimizers["discriminator"]
        optimizer = torch.optim.Adam(expected.parameters(), lr=0.05, betas=(0.5, 0.999))
        optimizer.load_state_dict(copy.deepcopy(own.state_dict()))
    ahead(expected, optimizer, real, fake.detach(), steps)
    points = torch.randn(9, 2)
    torch.testing.assert_close(reached(points).scores_N, expected(points).scores_N, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_generators_gradient_goes_through_the_steps(double, rule):
    """Against finite differences over one weight of the generator, each with ordinary steps of a copy."""
    networks, real, phases = game("objective.unroll.steps=3", *(SGD if rule == "sgd" else ()))
    take_step(phases.discriminator)
    latent_BZ, own = phases.generator.context.latents(), phases.optimizers["discriminator"]
    before = copy.deepcopy(networks)

    def value(shift):
        generator, discriminator = copy.deepcopy(before)
        with torch.no_grad():
            generator.experts.weight_KZH[0, 1, 2] += shift
        fake = generator(latent_BZ).samples.detach()
        if rule == "sgd":
            optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.2)
        else:
            optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.05, betas=(0.5, 0.999))
            optimizer.load_state_dict(copy.deepcopy(own.state_dict()))
        scores_N = ahead(discriminator, optimizer, real, fake, 3)(fake).scores_N
        return -(1 + scores_N.exp()).log().mean().item()

    loss = take_step(phases.generator, latent_BZ=latent_BZ)["loss/generator"].item()
    assert loss == pytest.approx(value(0.0), rel=1e-8)
    gradient = networks.generator.experts.weight_KZH.grad[0, 1, 2].item()
    assert (value(1e-6) - value(-1e-6)) / 2e-6 == pytest.approx(gradient, rel=1e-4)
    with torch.no_grad():  # the steps matter: without them, the gradient is another one
        plain = copy.deepcopy(before)
    fake = plain.generator(latent_BZ).samples
    (-(1 + plain.discriminator(fake).scores_N.exp()).log().mean()).backward()
    assert plain.generator.experts.weight_KZH.grad[0, 1, 2].item() != pytest.approx(gradient, rel=0.02)


def test_discriminator_itself_does_not_move():
    networks, _, phases = game()
    before = copy.deepcopy(networks.discriminator.state_dict())
    take_step(phases.generator)
    assert all(torch.equal(value, before[name]) for name, value in networks.discriminator.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in networks.discriminator.parameters())


def test_no_unrolled_steps_are_the_plain_loss():
    losses = []
    for unroll in ("objective.unroll.steps=0", "objective.unroll=null"):
        torch.manual_seed(0)
        networks, _, phases = game(unroll)
        losses.append(take_step(phases.generator)["loss/generator"])
        losses.append(networks.generator.experts.weight_KZH.grad)
    assert torch.equal(losses[0], losses[2]) and torch.equal(losses[1], losses[3])


def test_steps_of_a_fresh_adam_are_finite():
    """Before its first step, and for weights without a gradient, whose second moment is 0."""
    weight = {"used": torch.tensor([1.0], requires_grad=True), "unused": torch.tensor([1.0], requires_grad=True)}
    settings = {"lr": 0.1, "betas": (0.5, 0.999), "eps": 1e-8}
    after = Unrolling(2, "adam", None)(lambda now: (now["used"] ** 2 + 0 * now["unused"]).sum(), weight, {}, settings)
    same = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.Adam([same], **settings)
    for _ in range(2):
        optimizer.zero_grad()
        same.square().sum().backward()
        optimizer.step()
    assert after["used"].item() == pytest.approx(same.item(), rel=1e-6) and after["unused"].item() == 1
    (gradient,) = torch.autograd.grad(after["used"].sum() + after["unused"].sum(), weight["unused"])
    assert gradient.item() == 1


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("objective=wgan_gp", "objective/unroll=unrolled"), r"objective\.penalty: GradientPenalty has no part"),
        (("objective/optimizer=rmsprop",), r"objective\.unroll\.rule=adam"),
        (("objective.optimizer.discriminator.amsgrad=true",), r"objective\.unroll\.rule=adam"),
    ],
)
def test_unrolling_refuses_what_it_cannot_differentiate(overrides, reason):
    with pytest.raises(ConfigError, match=reason):
        composed("data=ring", "model=mog", "objective=unrolled", *overrides)


def test_unrolling_refuses_several_processes():
    run = composed("data=ring", "model=mog", "objective=unrolled")
    with pytest.raises(ConfigError, match=r"objective\.unroll: .* Take hardware\.devices=1"):
        check_ranks(build_networks(run.model, (2,)), run.training, run.objective, 2)
