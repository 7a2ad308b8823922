"""MIX+GAN: losses, gradients and weights against the payoff computed pair by pair; what cannot be combined."""

import math

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.layers import LossWeights
from mixgan_cli.models.networks import build_networks
from mixgan_cli.objectives.adversarial import Minimax, NonSaturating, Wasserstein
from mixgan_cli.training import loop
from tests.conftest import composed
from tests.training.test_iteration import begun

K, T, N = 2, 5, 4


@pytest.mark.parametrize(
    ("weights", "penalty"),
    [([0.2] * 5, 1.609433), ([0.96, 0.01, 0.01, 0.01, 0.01], 3.692220), ([0.5, 0.5], 0.693145)],
)
def test_penalty_of_uneven_weights(weights, penalty):
    """Values computed by hand: -1/n Σ ln(w + 1e-6), 0.1 of it in the loss."""
    of = LossWeights(len(weights), evenness=0.1)
    with torch.no_grad():
        of.logits_N.copy_(torch.tensor(weights).log())
    assert of().tolist() == pytest.approx(weights) and of.penalty().item() == pytest.approx(0.1 * penalty, abs=1e-6)


def weighted(state):
    """Give gate and head uneven weights, and return them as w and u in numpy."""
    gate, head = state.networks.generator.gate, state.networks.discriminator.head
    with torch.no_grad():
        gate.loss_weights().logits_N.copy_(torch.tensor([0.3, -0.5]))
        head.loss_weights().logits_N.copy_(torch.tensor([0.2, -0.7, 1.1, 0.0, 0.4]))
    return [each.loss_weights()().detach().double().numpy() for each in (gate, head)]


def softplus(values):
    return np.log1p(np.exp(values))


LOSSES = {  # what a discriminator loses on reals and fakes, and a generator on its fakes
    NonSaturating: (lambda s: softplus(-s), softplus, lambda s: softplus(-s)),
    Minimax: (lambda s: softplus(-s), softplus, lambda s: -softplus(s)),
    Wasserstein: (lambda s: -s, lambda s: s, lambda s: -s),
}


@pytest.mark.parametrize("adversarial", LOSSES)
def test_losses_are_the_payoff_of_all_pairs(adversarial):
    """Σ_ij w_i u_j F(i, j), each F(i, j) from the scores of discriminator j for generator i alone."""
    state = begun("mix_gan")
    for each in (state.networks.generator.gate, state.networks.discriminator.head):
        each.loss_weights().double()
    w, u = weighted(state)
    context = state.phases.generator.context
    scores, loss = torch.randn(K * N, T, dtype=torch.double), adversarial()
    real, fake, generator = LOSSES[adversarial]
    by_pair = scores.numpy().reshape(K, N, T)
    for of, what, generated in ((loss.real, real, False), (loss.fake, fake, True), (loss.generator, generator, True)):
        expected = 0.0
        for j in range(T):
            if not generated:
                expected += u[j] * what(scores[:, j].numpy()).mean()
                continue
            for i in range(K):
                expected += w[i] * u[j] * what(by_pair[i, :, j]).mean()
        value = context.weighted_loss(of, scores, generated)
        assert value.item() == pytest.approx(expected, rel=1e-12)


def test_steps_move_the_weights_by_their_gradients():
    """∂/∂logit_i of Σ w_i f_i + 0.1 R is w_i (f_i - Σ w f) + 0.1 ∂R/∂logit_i, by hand; the same for u."""
    state = begun("mix_gan")
    w, u = weighted(state)
    phase, generator = state.phases.generator, state.networks.generator
    latents = phase.context.latents()
    samples, _ = generator(latents)
    with torch.no_grad():
        scores = phase.context.discriminate(samples).scores_N.double().numpy()
    f = np.array([softplus(-part).mean(axis=0) @ u for part in np.split(scores, K)])
    inner = w / (w + 1e-6)
    expected = w * (f - w @ f) - 0.1 / K * (inner - w * inner.sum())
    taken = []
    logits = generator.gate.loss_weights().logits_N
    phase.optimizers["generator"].register_step_pre_hook(lambda *_: taken.append(logits.grad.clone()))
    phase.step(phase.inputs(0, 0), latents)
    np.testing.assert_allclose(taken[0].double().numpy(), expected, rtol=1e-4, atol=1e-7)


def test_all_generators_get_the_same_latents_and_whole_batches():
    generator = begun("mix_gan").networks.generator.train()
    latents = generator.latents(K * N)
    assert all(torch.equal(part, latents[:N]) for part in latents.chunk(K))
    _, weights = generator(latents)
    assert torch.equal(weights.argmax(dim=1), torch.arange(K).repeat_interleave(N))


def test_samples_come_from_the_learned_weights():
    state = begun("mix_gan")
    w, _ = weighted(state)
    gate = state.networks.generator.gate.eval()
    torch.manual_seed(0)
    share = gate(torch.zeros(20_000, 2)).mean(dim=0).numpy()
    assert np.abs(share - w).max() < 4 * math.sqrt(0.25 / 20_000)
    torch.testing.assert_close(gate.expert_prior(), torch.from_numpy(w).float())


def test_better_generators_and_discriminators_gain_weight():
    """After some iterations neither are the weights equal, nor has one vanished."""
    state = begun("mix_gan")
    for _ in range(5):
        loop.iterate(state, 0)
    for each in (state.networks.generator.gate, state.networks.discriminator.head):
        weights = each.loss_weights()()
        assert weights.std() > 0 and weights.min() > 0.5 / len(weights)


def test_discriminators_have_bodies_of_their_own():
    discriminator = build_networks(
        composed("model=mix_gan", "model.head.discriminators=3").model, (1, 16, 16)
    ).discriminator
    samples = torch.randn(5, 1, 16, 16)
    before = discriminator(samples).scores_N
    with torch.no_grad():
        for parameter in discriminator.body.each[1].parameters():
            parameter.add_(0.1)
    changed = (discriminator(samples).scores_N != before).any(dim=0)
    assert before.shape == (5, 3) and changed.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["objective=wgan_gp"], "takes the gradient of one score"),
        (["objective=r3gan"], "compares pairs of samples"),
        (
            ["model/head=score", "objective=r3gan", "model.backbone.discriminator_norm=none"],
            "compares pairs of samples",
        ),
        (["model.pack=2"], "weighs the losses of single samples"),
        (["objective/unroll=unrolled"], "cannot be unrolled"),
        (["objective=d2gan"], "takes two"),
    ],
)
def test_what_has_no_weighted_loss_is_refused(overrides, why):
    with pytest.raises(ConfigError, match=why):
        composed("model=mix_gan", *overrides)
