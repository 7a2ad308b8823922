"""Minibatch discrimination, compared with numpy, and its initialisation from real samples."""

import numpy as np
import pytest
import torch

from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.layers import forward_frozen_bn, he
from mixgan_cli.models.minibatch import MinibatchHead, closeness
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.checks import check_ranks
from mixgan_cli.training.setup import begin
from tests.conftest import composed

N, F, KERNELS, D = 6, 4, 3, 2
WORDS = ("model=gan", "model/head=minibatch", "objective=non_saturating")
SMALL = (*WORDS, "model.backbone.channels=4", "model.head.kernels=3", "training.batch=8")


def head():
    made = MinibatchHead(F, KERNELS, D, he, False).double()
    torch.nn.init.normal_(made.log_scale_BD)
    return made


def by_hand(made, features):
    """Projections [N, B, D] and o [N, B] without its offset, a pair of samples at a time."""
    theta, scale = made.theta_FBD.detach().numpy(), np.exp(made.log_scale_BD.detach().numpy())
    weight = theta * scale / np.sqrt((theta**2).sum(axis=0))
    projected = np.einsum("nf,fbd->nbd", features, weight)
    near = np.zeros((len(features), KERNELS))
    for i, j in np.ndindex(len(features), len(features)):
        near[i] += 0 if i == j else np.exp(-np.abs(projected[i] - projected[j]).sum(axis=1))
    return projected, near


def test_closeness_of_three_samples():
    """M = (0, 0), (.5, 0), (2, 1), shared/spec/rivals.md §4.8."""
    points = torch.tensor([[0.0, 0.0], [0.5, 0.0], [2.0, 1.0]], dtype=torch.double)
    near = closeness(torch.cdist(points, points, p=1).unsqueeze(0))
    assert near.flatten().tolist() == pytest.approx([0.656318, 0.688616, 0.131872], abs=1e-6)


def test_score_is_the_formula():
    made, features = head(), torch.randn(N, F).double()
    torch.nn.init.normal_(made.offset_B)
    output = made(features)
    _, near = by_hand(made, features.numpy())
    inputs = np.concatenate((features.numpy(), near + made.offset_B.detach().numpy()), axis=1)
    expected = inputs @ made.score.weight.detach().numpy()[0] + made.score.bias.item()
    np.testing.assert_allclose(output.scores_N.detach().numpy(), expected, rtol=1e-12)
    assert output.expert_logits_NL is None and output.features_NF is features


def test_closeness_of_distant_samples_is_zero():
    assert closeness(torch.cdist(*[torch.tensor([[[0.0], [60.0]]])] * 2, p=1)).abs().max() < 1e-20


def test_equal_samples_have_finite_gradients():
    made, features = head(), torch.ones(N, F).double().requires_grad_()
    made(features).scores_N.sum().backward()
    assert features.grad.isfinite().all()


def test_initialisation_follows_the_released_code():
    made, features = head(), torch.randn(40, F).double()
    made.initialise_from(features)
    projected, near = by_hand(made, features.numpy())
    distance = np.abs(projected[:, None] - projected[None]).sum(axis=3) + 1e6 * np.eye(40)[:, :, None]
    np.testing.assert_allclose(distance.min(axis=1).mean(axis=0), 2, rtol=1e-9)
    np.testing.assert_allclose(made.offset_B.detach().numpy(), -near.mean(axis=0), rtol=1e-9)


def test_run_begins_with_the_scales_of_real_samples():
    run = composed(*SMALL)
    networks = build_networks(run.model, (1, 8, 8))
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8)
    state = begin(run, networks, ImageDataset(*[Packed(images, None, "random")] * 2), Compute(torch.device("cpu")))
    discriminator = state.networks.discriminator
    features = forward_frozen_bn(discriminator.body, images.float() / 127.5 - 1)
    distance = discriminator.head._distances(features) + 1e6 * torch.eye(30)
    torch.testing.assert_close(distance.amin(dim=2).mean(dim=1), torch.full((3,), 2.0), rtol=1e-4, atol=0)
    assert not discriminator.per_sample


@pytest.mark.parametrize("objective", ["wgan_gp", "r1", "r3gan"])
def test_gradient_penalties_are_refused(objective):
    with pytest.raises(ConfigError, match=r"objective\.penalty: .* depends on the other samples"):
        composed("model=gan", "model/head=minibatch", f"objective={objective}")


def test_several_processes_are_refused():
    run = composed(*SMALL)
    networks = build_networks(run.model, (1, 8, 8))
    check_ranks(networks, run.training, run.objective, 1)
    with pytest.raises(ConfigError, match=r"model\.head: MinibatchHead compares .* Take hardware\.devices=1"):
        check_ranks(networks, run.training, run.objective, 2)
