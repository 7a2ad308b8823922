"""Analyses of a mixture, against loops over samples and experts."""

import numpy as np
import pytest
import torch

from mixgan_cli.data.packed import Packed
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots import mixture_analysis as analysis
from tests.conftest import PAPER, composed


def sampler(*overrides):
    run = composed(*PAPER, "data.size=8", "model.backbone.channels=4", *overrides)
    return Sampler(build_networks(run.model, (1, 8, 8)).generator)


@pytest.fixture
def made():
    return torch.randint(256, (20, 3, 4, 4), dtype=torch.uint8), torch.rand(20, 4).softmax(dim=1)


def test_averages_are_weighted_means(made):
    images, weights = made
    found = analysis.expert_averages(images, weights)
    for expert in range(4):
        a, x = weights[:, expert].double().numpy(), images.double().numpy()
        expected = sum(a[n] * x[n] for n in range(20)) / a.sum()
        np.testing.assert_allclose(found[expert], expected, rtol=1e-12)
    assert analysis.expert_averages(images, torch.zeros(20, 1)).abs().max() == 0  # an expert without weight


def test_a_parent_is_the_blend_of_its_children(made):
    """HMoG thesis: p_m is the soft path probability; x̄_m p̄_m = x̄_left p̄_left + x̄_right p̄_right."""
    images, weights = made
    levels = analysis.node_densities(weights)
    assert [level.shape[1] for level in levels] == [1, 2, 4]
    torch.testing.assert_close(
        levels[1], torch.stack((weights[:, 0] + weights[:, 1], weights[:, 2] + weights[:, 3]), 1)
    )
    torch.testing.assert_close(levels[0], torch.ones(20, 1))
    parents, children = analysis.expert_averages(images, levels[1]), analysis.expert_averages(images, levels[2])
    mass = weights.double().sum(dim=0)
    blend = (mass[0] * children[0] + mass[1] * children[1]) / (mass[0] + mass[1])
    torch.testing.assert_close(parents[0], blend, rtol=1e-6, atol=1e-5)


def test_node_densities_equal_the_tree_gate_s():
    gate = sampler("model=hmog", "model.k=8").generator.gate
    latent = torch.randn(5, 100)
    for found, own in zip(analysis.node_densities(gate(latent)), gate.levels(latent), strict=True):
        torch.testing.assert_close(found, own)


def test_covariance_equals_numpy_s(made):
    _, weights = made
    np.testing.assert_allclose(analysis.weight_covariance(weights), np.cov(weights.double().numpy().T), rtol=1e-10)
    assert analysis.weight_covariance(torch.ones(5, 1)).shape == (1, 1)


def test_top_samples_have_the_largest_weights():
    mog = sampler("model=mog", "model.k=3")
    found = analysis.top_samples(mog, n=300, each=2, seed=5)
    assert found.shape == (3, 2, 1, 8, 8) and found.dtype == torch.uint8
    latents, weights = analysis.draw_weights(mog, 300, 5)
    generator = mog.generator.eval()
    for expert in range(3):
        order = sorted(range(300), key=lambda n, expert=expert: -weights[n, expert].item())[:2]
        expected = mog(latents[order])
        assert (found[expert].int() - expected.int()).abs().max() <= 1
        torch.testing.assert_close(generator.weights(latents[order]).weights_BK, weights[order])


def test_analyses_keep_the_mode_and_the_random_state():
    mog = sampler("model=mog", "model.k=3")
    mog.generator.train()
    before = torch.get_rng_state()
    for look in (analysis.top_samples, analysis.draw_weights):
        look(mog, **({"n": 9, "each": 1, "seed": 0} if look is analysis.top_samples else {"n": 9, "seed": 0}))
    analysis.interpolate_within(mog, 3, 0), analysis.interpolate_across(mog, 3, 0)
    assert mog.generator.training and torch.equal(torch.get_rng_state(), before)


def test_a_path_is_a_great_circle_or_straight():
    first, last = torch.randn(50), torch.randn(50)
    last = last / last.norm() * first.norm()
    circle = analysis.latent_path(first, last, 5, spherical=True)
    torch.testing.assert_close(circle[0], first)
    torch.testing.assert_close(circle[-1], last)
    torch.testing.assert_close(circle.norm(dim=1), first.norm().expand(5))  # latents of N(0, I) keep their length
    angles = torch.cosine_similarity(circle[:-1], circle[1:], dim=1).acos()
    torch.testing.assert_close(angles, angles[:1].expand(4), rtol=1e-3, atol=1e-4)
    straight = analysis.latent_path(first, last, 3, spherical=False)
    torch.testing.assert_close(straight[1], (first + last) / 2)
    torch.testing.assert_close(analysis.latent_path(first, 2 * first, 3, spherical=True)[1], 1.5 * first)


@pytest.mark.parametrize("model", ["mog", "mggan", "megan"])
def test_interpolations_end_at_the_experts_samples(model):
    mixture = sampler(f"model={model}", "model.k=4")
    within, across = analysis.interpolate_within(mixture, 5, seed=3), analysis.interpolate_across(mixture, 5, seed=3)
    assert within.shape == (4 + (not mixture.hard), 5, 1, 8, 8) and across.shape == (3, 5, 1, 8, 8)
    from mixgan_cli.runtime.random import fork_seed

    generator = mixture.generator.eval()
    with fork_seed("path", 3):
        ends = generator.latents(2, device="cpu")
    with fork_seed("path", 3):
        single = generator.latents(1, device="cpu")
    for expert in range(4):
        expected = _alone(generator, ends, expert)
        assert (within[expert][[0, -1]].int() - expected.int()).abs().max() <= 1
    for pair in range(3):
        expected = torch.cat((_alone(generator, single, pair), _alone(generator, single, pair + 1)))
        assert (across[pair][[0, -1]].int() - expected.int()).abs().max() <= 1


@torch.no_grad()
def _alone(generator, latents, expert):
    return ((generator(latents, expert).samples + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def test_nearest_images_are_those_of_brute_force(monkeypatch):
    monkeypatch.setattr(analysis, "MAX_POOL", 700)
    pool = torch.randint(256, (800, 3, 4, 4), dtype=torch.uint8)
    images = torch.cat((pool[[5, 650]], torch.zeros(1, 3, 4, 4, dtype=torch.uint8), pool[[750]]))
    neighbours, distances = analysis.nearest_images(images, Packed(pool, None, ""), 3)
    squares = (images.double().flatten(1)[:, None] - pool[:700].double().flatten(1)).square().mean(dim=2)
    expected, order = squares.sqrt().topk(3, largest=False)
    torch.testing.assert_close(distances.double(), expected)
    assert torch.equal(neighbours, pool[order])
    assert distances[:2, 0].tolist() == [0, 0] and distances[3, 0] > 0  # the last one is beyond the pool
