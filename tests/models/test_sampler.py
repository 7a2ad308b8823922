"""Truncation, the experts' probabilities, and mixing by hand."""

import math

import pytest
import torch
from scipy import stats

from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler, truncate
from tests.conftest import composed

N = 4000


def sampler(*overrides, shape=(1, 8, 8)):
    small = [] if "data=ring" in overrides else ["model.backbone.channels=4"]
    model = composed(*overrides, *small, "model.latent.size=6").model
    return Sampler(build_networks(model, shape).generator.eval().requires_grad_(False))


@pytest.mark.parametrize("bound", [1e-6, 0.1, 0.7, 2.0, 9.0])
def test_truncated_normal_matches_scipy(bound):
    """Against scipy's truncated normal."""
    z = truncate(torch.randn(N, 6), "normal", bound).flatten()
    assert z.abs().max() <= bound * (1 + 1e-6) and z.dtype == torch.float32
    assert stats.kstest(z.double().numpy(), stats.truncnorm(-bound, bound).cdf).pvalue > 0.01


def test_truncation_equals_rejection_sampling():
    """The definition: each coordinate is drawn again until it is within the bound."""
    redrawn = torch.randn(20 * N)
    redrawn = redrawn[redrawn.abs() <= 0.5]
    z = truncate(torch.randn(N), "normal", 0.5)
    assert stats.ks_2samp(z.numpy(), redrawn.numpy()).pvalue > 0.01


@pytest.mark.parametrize("bound", [0.25, 1.0, 3.0])
def test_truncated_uniform_is_uniform(bound):
    z, reach = truncate(torch.rand(N, 6) * 2 - 1, "uniform", bound).flatten(), min(bound, 1)
    assert z.abs().max() <= reach
    assert stats.kstest(z.numpy(), stats.uniform(-reach, 2 * reach).cdf).pvalue > 0.01


def test_truncation_keeps_order_and_sign_of_coordinates():
    z = torch.randn(500, 6)
    cut = truncate(z, "normal", 0.8)
    assert cut.T.corrcoef().fill_diagonal_(0).abs().max() < 0.2
    assert torch.equal(cut.flatten().argsort(), z.flatten().argsort()) and torch.equal(cut.sign(), z.sign())
    torch.testing.assert_close(truncate(z, "normal", 8.0), z)  # a bound beyond all coordinates


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_truncation_must_be_positive(bound):
    with pytest.raises(ConfigError, match="truncation="):
        sampler("model=hmog").sample(2, truncation=bound)


@pytest.mark.parametrize("model", ["hmog", "mggan"])
def test_truncation_keeps_the_seeds_latents_and_experts(model):
    """The untruncated latents of a seed do not change, and a hard gate selects the same experts."""
    generator = sampler(f"model={model}", "model.k=4")
    whole, cut = generator.draw(300, seed=3), generator.draw(300, seed=3, truncation=0.5)
    assert torch.equal(whole.samples, generator.sample(300, seed=3))
    assert not torch.equal(whole.samples, cut.samples)
    if generator.hard:
        assert torch.equal(whole.weights_BK, cut.weights_BK)
    latents = generator.latents(300, seed=3)
    torch.testing.assert_close(generator.latents(300, 3, 0.5), truncate(latents, generator.prior, 0.5))
    assert torch.equal(cut.samples, generator.sample(300, 3, truncation=0.5))


def test_latents_belong_to_the_samples_of_a_seed():
    generator = sampler("model=mog", "model.k=3")
    assert torch.equal(generator(generator.latents(40, seed=2)), generator.sample(40, seed=2))
    assert torch.equal(generator(generator.latents(40, seed=2), expert=1), generator.sample(40, seed=2, expert=1))
    assert generator.latent_size == 6 and generator.latents(1).shape == (1, 6)


def test_mix_with_given_weights():
    """The gate's own weights give the mixture, one-hot weights an expert, others a new mixture."""
    generator = sampler("model=hmog", "model.k=4", "data=ring", shape=(2,))
    z = generator.latents(5)
    torch.testing.assert_close(generator.mix(z, generator.probabilities(z)), generator(z))
    alone = [generator.mix(z, torch.eye(4)[[k] * 5]) for k in (0, 2)]
    torch.testing.assert_close(alone[1], generator(z, expert=2))
    weights = torch.tensor([[0.3, 0, 0.7, 0]]).expand(5, -1)
    hidden = [generator.generator.experts.forward_one(k, z) for k in (0, 2)]
    torch.testing.assert_close(generator.mix(z, weights), generator.generator.trunk(0.3 * hidden[0] + 0.7 * hidden[1]))


@pytest.mark.parametrize("model", ["gan", "madgan", "megan", "megan_hidden", "hmog"])
def test_probabilities_equal_selection_frequencies(model):
    generator = sampler(f"model={model}", *([] if model == "gan" else ["model.k=4"]))
    z = generator.latents(1, seed=1)
    probabilities = generator.probabilities(z)
    assert probabilities.shape == (1, generator.k) and probabilities.sum().item() == pytest.approx(1)
    chosen = generator.generator.weights(z.expand(N, -1)).weights_BK.mean(dim=0)
    torch.testing.assert_close(chosen, probabilities[0], atol=4 * math.sqrt(0.25 / N), rtol=0)


def test_norm_batch_uses_statistics_of_each_batch():
    """As in MEGAN's code: the same samples as of a generator in training mode, without touching its statistics."""
    generator = sampler("model=megan", "model.k=2")
    network = generator.generator
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = generator.draw(15, seed=4, expert=1, norm_batch=10).samples
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.training and len(drawn) == 15
    z = generator.latents(20, seed=4)
    network.train()
    expected = torch.cat([generator(each, expert=1) for each in z.split(10)])
    assert torch.equal(drawn, expected[:15]) and not torch.equal(drawn, generator.sample(15, seed=4, expert=1))


def test_norm_batch_changes_nothing_without_batch_norm():
    generator = sampler("model=hmog", "model.k=2")
    assert torch.equal(generator.draw(20, seed=1, norm_batch=20).samples, generator.sample(20, seed=1))


def test_samples_that_are_not_finite_are_refused():
    """As uint8, a NaN is a black pixel."""
    own = sampler()
    own.generator.gate.splits.bias.fill_(float("nan"))
    with pytest.raises(RunError, match="the samples are not finite"):
        own.sample(4)
