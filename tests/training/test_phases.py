"""The losses that are really minimised, recomputed in float64 from the networks' weights alone."""

import copy

import numpy as np
import pytest
import torch

from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.setup import build_phases
from tests.conftest import PAPER, composed, take_step

COMPUTE = Compute(torch.device("cpu"))
BATCH = 6


class Fixed:
    """The same real images each time."""

    def __init__(self, images):
        self.images = images

    def get_batch(self, nimg, batch):
        return self.images


def game(*overrides):
    run = composed(*PAPER, "model.k=4", "model.backbone.channels=4", *overrides)
    networks = build_networks(run.model, (1, 8, 8))
    real = torch.rand(BATCH, 1, 8, 8) * 2 - 1
    return networks, real, build_phases(run.objective, networks, Fixed(real), BATCH, COMPUTE)


def mixture_by_hand(generator, latent_BZ):
    """Gate, leaves and trunk of HMoG with K = 4, written out; the trunk of an 8-pixel image is one convolution."""
    v, v0 = generator.gate.splits.weight.detach().numpy(), generator.gate.splits.bias.detach().numpy()
    W, w0 = generator.experts.weight_KZH.detach().numpy(), generator.experts.bias_KH.detach().numpy()
    images = []
    for z in latent_BZ.numpy():
        s = 1 / (1 + np.exp(-(v @ z + v0)))
        a = [s[0] * s[1], s[0] * (1 - s[1]), (1 - s[0]) * s[2], (1 - s[0]) * (1 - s[2])]
        h = sum(a[i] * (z @ W[i] + w0[i]) for i in range(4))
        images.append(up_by_hand(h.reshape(-1, 4, 4), generator.trunk[1][0]))
    return torch.from_numpy(np.tanh(np.stack(images)))


def up_by_hand(hidden, layer):
    """A transposed convolution, 4×4, stride 2, padding 1: every input pixel paints a patch."""
    kernel = layer.weight.detach().numpy()  # [in, out, 4, 4]
    painted = np.zeros((kernel.shape[1], 10, 10))
    for channel, row, column in np.ndindex(*hidden.shape):
        painted[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += hidden[channel, row, column] * kernel[channel]
    return painted[:, 1:-1, 1:-1] + layer.bias.detach().numpy()[:, None, None]


def test_wgan_gp_of_hmog_is_the_formula(double):
    networks, real, (discriminator_phase, generator_phase) = game("model=hmog")

    def critic(samples):
        return networks.discriminator(samples).scores_N

    torch.manual_seed(5)
    latent_BZ, alpha = torch.randn(BATCH, 100), torch.rand(BATCH, 1, 1, 1)
    fake = mixture_by_hand(networks.generator, latent_BZ)
    between = (real + alpha * (fake - real)).requires_grad_()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: critic(x[None])[0]))(between.detach())
    norms = jacobian.flatten(1).square().sum(1).sqrt().detach().numpy()
    with torch.no_grad():
        real_score, fake_score = critic(real).numpy(), critic(fake).numpy()
    penalty = 10 * np.mean((norms - 1) ** 2)

    torch.manual_seed(5)
    told = take_step(discriminator_phase)
    assert told["loss/penalty"].item() == pytest.approx(penalty, rel=1e-10)
    assert told["loss/discriminator"].item() == pytest.approx(
        -real_score.mean() + fake_score.mean() + penalty, rel=1e-10
    )
    assert told["score/real"].item() == pytest.approx(real_score.mean(), rel=1e-10)

    torch.manual_seed(6)
    fake = mixture_by_hand(networks.generator, torch.randn(BATCH, 100))
    with torch.no_grad():
        expected = -critic(fake).mean().item()
    torch.manual_seed(6)
    assert take_step(generator_phase)["loss/generator"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("objective", ["non_saturating", "minimax", "lsgan", "hinge"])
def test_other_objectives_have_no_penalty(double, objective):
    _, _, (discriminator_phase, _) = game("model=hmog", f"objective={objective}")
    assert "loss/penalty" not in take_step(discriminator_phase)


@pytest.mark.parametrize("objective", ["wgan_gp", "non_saturating", "minimax", "lsgan", "hinge"])
@pytest.mark.parametrize("mover", ["discriminator", "generator"])
def test_each_phase_trains_only_its_network(objective, mover):
    networks, _, phases = game("model=hmog", f"objective={objective}")
    before = {player: dict(copy.deepcopy(network).named_parameters()) for player, network in networks._asdict().items()}
    take_step(next(phase for phase in phases if mover in phase.optimizers))
    for player, network in networks._asdict().items():
        still = {name for name, value in network.named_parameters() if torch.equal(value, before[player][name])}
        if player != mover:
            assert still == before[player].keys()
        else:  # a critic's bias cancels between real and fake
            assert still <= ({"head.score.bias"} if objective in ("wgan_gp", "hinge") else set())


def test_a_generator_step_lowers_its_loss():
    _, _, (_, phase) = game("model=hmog", "objective.optimizer.generator.lr=1e-3")
    losses = []
    for _ in range(3):
        torch.manual_seed(0)
        losses.append(take_step(phase)["loss/generator"].item())
    assert losses[2] < losses[1] < losses[0]


def test_adam_has_the_papers_settings():
    _, _, phases = game("model=hmog")
    for phase in phases:
        ((group,),) = [optimizer.param_groups for optimizer in phase.optimizers.values()]
        assert (group["lr"], group["betas"], group["amsgrad"]) == (1e-4, (0.5, 0.999), True)
    assert [(list(phase.optimizers), phase.steps) for phase in phases] == [(["discriminator"], 5), (["generator"], 1)]


def test_generator_step_gives_the_discriminator_no_gradients():
    networks, _, (_, phase) = game("model=hmog")
    take_step(phase)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in networks.discriminator.parameters())


def test_real_and_fake_batches_have_separate_batch_norm():
    """Joined in one batch, they would be normalised together: the statistics would be of another batch."""
    networks, _, (phase, _) = game("model=hmog", "objective=non_saturating", "model.backbone.discriminator_norm=batch")
    seen = []
    networks.discriminator.body[1].register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    take_step(phase)
    assert seen == [BATCH, BATCH]
