"""Feature matching, compared with numpy: the term, the generator's step with it, and what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.objectives.terms import FeatureMatching, GeneratedBatch
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_step
from tests.training.test_phases import COMPUTE, Fixed

POINTS = ("data=ring", "model=mog", "model.k=2", "model.latent.size=3", "objective=feature_matching")


def batch(real, fake):
    nothing = torch.zeros(len(fake))
    return GeneratedBatch(nothing, nothing, nothing, nothing, None, fake, real)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_value_and_gradient_are_the_formula(norm):
    real, fake = torch.randn(7, 5).double(), torch.randn(4, 5).double().requires_grad_()
    value = FeatureMatching(1.0, norm)(batch(real, fake))
    difference = real.numpy().mean(axis=0) - fake.detach().numpy().mean(axis=0)
    expected = {"l1": np.abs(difference).mean(), "l2": (difference**2).sum()}[norm]
    assert value.item() == pytest.approx(expected, rel=1e-12)
    value.backward()
    slope = {"l1": -np.sign(difference) / 5, "l2": -2 * difference}[norm] / 4
    np.testing.assert_allclose(fake.grad.numpy(), np.tile(slope, (4, 1)), rtol=1e-9)


def test_equal_features_cost_nothing():
    features = torch.randn(6, 3)
    assert FeatureMatching(1.0, "l1")(batch(features, features.flip(0))).item() == pytest.approx(0, abs=1e-7)


def test_generator_minimises_the_distance_alone():
    """The step's gradient recomputed; the score has no part in it, and the discriminator does not move."""
    run = composed(*POINTS)
    networks, real = build_networks(run.model, (2,)), torch.randn(6, 2)
    phases = build_phases(run.objective, networks, Fixed(real), 6, COMPUTE)
    generator, discriminator = copy.deepcopy(networks)
    latent_BZ = phases.generator.context.latents()
    fake = discriminator.body(generator(latent_BZ).samples).mean(dim=0)
    distance = (discriminator.body(real).mean(dim=0) - fake).abs().mean()
    gradients = torch.autograd.grad(distance, list(generator.parameters()))
    scalars = take_step(phases.generator, latent_BZ=latent_BZ)
    assert scalars["loss/generator"].item() == scalars["loss/feature_matching"].item() == pytest.approx(distance.item())
    for got, expected in zip(networks.generator.parameters(), gradients, strict=True):
        torch.testing.assert_close(got.grad, expected, rtol=1e-4, atol=1e-7)
    before = discriminator.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in networks.discriminator.state_dict().items())


def test_matching_takes_the_reals_of_the_last_step():
    phases = build_phases(
        composed(*POINTS).objective, build_networks(composed(*POINTS).model, (2,)), Fixed(torch.zeros(6, 2)), 6, COMPUTE
    )
    asked = []
    context = replace(phases.generator.context, batches=Fixed(torch.zeros(6, 2)))
    context.batches.get_batch = lambda nimg, n: asked.append((nimg, n)) or torch.zeros(n, 2)
    phases.generator.context = context
    phases.generator.inputs(18, 2)
    assert asked == [(12, 6)]


def test_matching_can_join_an_adversarial_loss():
    run = composed("data=ring", "model=mog", "objective=hinge", "objective/terms=feature_matching")
    assert list(run.objective.terms) == ["diversity", "feature_matching"]
    networks = build_networks(run.model, (2,))
    phases = build_phases(run.objective, networks, Fixed(torch.randn(6, 2)), 6, COMPUTE)
    scalars = take_step(phases.generator)
    assert scalars["loss/generator"] != scalars["loss/feature_matching"]


def test_generator_without_any_loss_is_refused():
    with pytest.raises(ConfigError, match=r"objective\.adversarial: with TermsOnly .* it has none"):
        composed(*POINTS, "objective.terms.feature_matching=null")
