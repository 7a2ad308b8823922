"""The gate with a learned prior: which expert makes a sample, and who learns the prior."""

import pytest
import torch

from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.prior import PriorGate
from mixgan_cli.models.sampler import Sampler
from tests.conftest import composed

LOGITS = (1.0, 0.0, -1.0)
PRIOR = torch.tensor([0.665241, 0.244728, 0.090031])  # softmax of LOGITS, shared/spec/rivals.md §4.2


def gate_of(*logits):
    gate = PriorGate(len(logits))
    with torch.no_grad():
        gate.logits_K.copy_(torch.tensor(logits))
    return gate


@pytest.fixture(scope="module")
def generator():
    model = composed("model=dmgan", "data=ring", "model.k=3", "model.latent.size=4").model
    return build_networks(model, (2,)).generator


def test_prior_is_uniform_at_first():
    torch.testing.assert_close(PriorGate(4).expert_prior(), torch.full((4,), 0.25))


@pytest.mark.parametrize("training", [True, False])
def test_frequencies_of_the_experts_follow_the_prior(training):
    n = 200_000
    weights = gate_of(*LOGITS).train(training)(torch.randn(n, 2))
    assert ((weights == 0) | (weights == 1)).all() and (weights.sum(dim=1) == 1).all()
    error = (PRIOR * (1 - PRIOR) / n).sqrt()
    assert ((weights.mean(dim=0) - PRIOR).abs() < 4 * error).all()


def test_expert_does_not_depend_on_the_latent():
    gate, seen = gate_of(*LOGITS), []
    for latent_BZ in (torch.zeros(500, 2), torch.randn(500, 2)):
        torch.manual_seed(3)
        seen.append(gate(latent_BZ))
    assert torch.equal(*seen)


def test_samples_are_those_of_the_chosen_experts(generator):
    with torch.no_grad():
        generator.gate.logits_K.copy_(torch.tensor(LOGITS))
        latent_BZ = generator.latents(50)
        output = generator(latent_BZ)
        single = torch.stack([generator(latent_BZ, expert).samples for expert in range(3)], dim=1)
    chosen = output.weights_BK.argmax(dim=1)
    assert set(chosen.tolist()) == {0, 1, 2}
    torch.testing.assert_close(output.samples, single[torch.arange(50), chosen])


def test_generated_samples_do_not_move_the_prior(generator):
    generator.zero_grad()
    generator(generator.latents(20)).samples.square().sum().backward()
    assert generator.gate.logits_K.grad is None
    assert all(p.grad is not None for p in generator.experts.parameters())


def test_relaxed_weights_are_the_prior_with_its_gradient():
    gate = gate_of(*LOGITS)
    chosen, relaxed = gate.weights(torch.randn(5, 2), None, None)
    assert not chosen.requires_grad
    torch.testing.assert_close(relaxed, PRIOR.expand(5, 3), atol=1e-6, rtol=0)
    relaxed[:, 0].mean().backward()
    jacobian = torch.diag(PRIOR) - torch.outer(PRIOR, PRIOR)
    torch.testing.assert_close(gate.logits_K.grad, jacobian[0], atol=1e-6, rtol=0)


def test_sampler_draws_from_the_prior(generator):
    with torch.no_grad():
        generator.gate.logits_K.copy_(torch.tensor(LOGITS))
    sampler = Sampler(generator.requires_grad_(False))
    drawn = sampler.draw(4000, seed=1)
    assert torch.equal(drawn.samples, sampler.sample(4000, seed=1))
    assert (drawn.weights_BK.mean(dim=0) - PRIOR).abs().max() < 0.03
    torch.testing.assert_close(sampler.probabilities(torch.zeros(2, 4)), PRIOR.expand(2, 3), atol=1e-6, rtol=0)
