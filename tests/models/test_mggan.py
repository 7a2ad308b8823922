"""MGGAN compared with its specification: the released CIFAR-10 networks, the gate, and single training steps."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.mggan import TFPaddedConv2d, TFPaddedConvTranspose2d
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_step
from tests.training.test_phases import COMPUTE, Fixed

once_composed = cache(composed)  # composing is what takes time

SMALL = ("model.k=3", "model.backbone.channels=4", "model.backbone.layers=2", "model.latent.size=5")
BN = (nn.BatchNorm1d, nn.BatchNorm2d)


def networks(*overrides, shape=(3, 32, 32)):
    return build_networks(once_composed("model=mggan", *overrides).model, shape)


def small(*overrides):
    """Three experts, two layers, 8×8 pixels, 32 hidden units."""
    return networks(*SMALL, *overrides, shape=(1, 8, 8))


def game(*overrides, shape=(1, 8, 8)):
    run = once_composed("model=mggan", *SMALL, "training.batch=30", *overrides)
    players = build_networks(run.model, shape)
    real = torch.rand(30, *shape) * 2 - 1
    return players, build_phases(run.objective, players, Fixed(real), 30, COMPUTE)


def values(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def gradients(network):
    return [parameter.grad.clone() for parameter in network.parameters()]


def equal(some, others):
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


# Networks


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize("offset", [True, False])
def test_parameter_counts_match_the_specification(k, offset):
    with torch.device("meta"):
        counts = parameter_counts(networks(f"model.k={k}", f"model.experts.offset={offset}"))
    first = 843_776 - (0 if offset else 8192)
    assert (counts["experts"], counts["gate"]) == (k * first, 0)
    assert counts["trunk"] == 4_106_371
    assert counts["generator"] == k * first + 4_106_371
    assert counts["discriminator"] == 4_108_288 + 8_193 + k * 8_193
    if offset:
        assert counts["generator"] == {10: 12_544_131, 1: 4_950_147}[k]
    if k == 10:
        assert counts["discriminator"] == 4_198_411


SIZES = [  # (pixels, layers, maps of the generator as (channels, side)); the specification's table of data sets
    (32, 3, [(512, 4), (256, 8), (128, 16), (3, 32)]),
    (48, 3, [(512, 6), (256, 12), (128, 24), (3, 48)]),
    (48, 4, [(1024, 3), (512, 6), (256, 12), (128, 24), (3, 48)]),
    (64, 3, [(512, 8), (256, 16), (128, 32), (3, 64)]),
    (64, 4, [(1024, 4), (512, 8), (256, 16), (128, 32), (3, 64)]),
    (96, 3, [(512, 12), (256, 24), (128, 48), (3, 96)]),
    (96, 4, [(1024, 6), (512, 12), (256, 24), (128, 48), (3, 96)]),
]


@pytest.mark.parametrize(("pixels", "layers", "maps"), SIZES)
def test_feature_maps_match_the_specification(pixels, layers, maps):
    with torch.device("meta"):
        generator, discriminator = networks("model.k=2", f"model.backbone.layers={layers}", shape=(3, pixels, pixels))
    seen = []
    for layer in [generator.trunk[0], *generator.trunk[1:]]:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append((output.shape[1], output.shape[2])))
    down = []
    for layer in discriminator.body:
        if isinstance(layer, TFPaddedConv2d):
            layer.register_forward_hook(lambda layer, inputs, output: down.append((output.shape[1], output.shape[2])))
    samples = generator(generator.latents(4)).samples
    assert seen == maps and samples.shape == (4, 3, pixels, pixels)
    assert discriminator(samples).expert_logits_NL.shape == (4, 2)
    assert down == maps[-2::-1]


@pytest.mark.parametrize(("pixels", "layers"), [(30, 2), (48, 5), (32, 0)])
def test_sizes_that_do_not_halve_are_rejected(pixels, layers):
    with pytest.raises(ConfigError, match=f"data.size={pixels}"):
        networks(f"model.backbone.layers={layers}", shape=(3, pixels, pixels))


def test_layers_match_the_papers_table():
    generator, discriminator = small()
    kinds = [type(layer).__name__ for layer in generator.modules() if not list(layer.children())]
    up = ["TFPaddedConvTranspose2d", "BatchNorm2d", "ReLU"]
    first = ["BatchNorm1d", "ReLU"]
    assert [kind for kind in kinds if kind not in ("Identity", "UniformGate", "Unflatten")] == [
        *first,
        *up,
        "TFPaddedConvTranspose2d",
        "Tanh",
    ]
    body = [type(layer).__name__ for layer in discriminator.body]
    assert body == [*["TFPaddedConv2d", "BatchNorm2d", "LeakyReLU"] * 2, "Flatten"]
    assert all(layer.negative_slope == 0.2 for layer in discriminator.body if isinstance(layer, nn.LeakyReLU))
    for layer in [*generator.modules(), *discriminator.modules()]:
        if isinstance(layer, BN):
            assert (layer.eps, layer.momentum) == (1e-5, 0.1)


def test_initial_weights_match_the_specification():
    generator, discriminator = networks("model.k=2", "model.experts.offset=true")
    up = [layer for layer in generator.trunk.modules() if isinstance(layer, nn.ConvTranspose2d)]
    dense = generator.experts
    for weight, bias in [(dense.weight_KZH, dense.bias_KH), *((layer.weight, layer.bias) for layer in up)]:
        assert weight.std().item() == pytest.approx(0.02, rel=0.03) and not bias.any()
    assert dense.weight_KZH.abs().max() > 0.06  # not cut
    down = [layer for layer in discriminator.body if isinstance(layer, nn.Conv2d)]
    for layer in down:
        assert 0.0395 < layer.weight.abs().max() <= 0.04 and not layer.bias.any()
        assert layer.weight.std().item() == pytest.approx(0.0175926, rel=0.02)  # N(0, 0.02²) cut at 2σ
    for head in (discriminator.head.score, discriminator.head.experts):
        assert head.weight.std().item() == pytest.approx(0.02, rel=0.03) and not head.bias.any()
    for layer in [*generator.modules(), *discriminator.modules()]:
        if isinstance(layer, BN):
            assert (layer.weight == 1).all() and (layer.bias is None or not layer.bias.any())


# Padding of the convolutions


def same(images, weights):
    """TensorFlow's SAME padding, index by index: ⌈S/2⌉ outputs per side, the smaller half of the padding first."""
    side = images.shape[2]
    half = -(-side // 2)
    before = max((half - 1) * 2 + 5 - side, 0) // 2
    result = np.zeros((len(images), len(weights), half, half))
    for i, j, a, b in np.ndindex(half, half, 5, 5):
        row, column = 2 * i + a - before, 2 * j + b - before
        if 0 <= row < side and 0 <= column < side:
            result[:, :, i, j] += images[:, :, row, column] @ weights[:, :, a, b].T
    return result


def same_transposed(hidden, weights):
    """The transpose: each input adds to the pixels that the convolution of twice its side would read."""
    half = hidden.shape[2]
    side = 2 * half
    before = max((half - 1) * 2 + 5 - side, 0) // 2
    result = np.zeros((len(hidden), weights.shape[1], side, side))
    for i, j, a, b in np.ndindex(half, half, 5, 5):
        row, column = 2 * i + a - before, 2 * j + b - before
        if 0 <= row < side and 0 <= column < side:
            result[:, :, row, column] += hidden[:, :, i, j] @ weights[:, :, a, b]
    return result


def with_offsets(result, layer):
    return torch.from_numpy(result + layer.bias.detach().numpy()[:, None, None])


@pytest.mark.parametrize("side", [2, 4, 6, 12])
def test_convolutions_match_tensorflow_same_padding(side):
    down, up = TFPaddedConv2d(2, 3).double(), TFPaddedConvTranspose2d(3, 2).double()
    images, hidden = torch.randn(2, 2, side, side).double(), torch.randn(2, 3, side, side).double()
    expected = same(images.numpy(), down.weight.detach().numpy())
    torch.testing.assert_close(down(images), with_offsets(expected, down))
    expected = same_transposed(hidden.numpy(), up.weight.detach().numpy())
    torch.testing.assert_close(up(hidden), with_offsets(expected, up))


def test_transposed_convolution_is_the_adjoint():
    down, up = TFPaddedConv2d(2, 3).double(), TFPaddedConvTranspose2d(3, 2).double()
    with torch.no_grad():
        up.weight.copy_(down.weight)
        for layer in (down, up):
            layer.bias.zero_()
        images, hidden = torch.randn(4, 2, 8, 8).double(), torch.randn(4, 3, 4, 4).double()
        assert (down(images) * hidden).sum().item() == pytest.approx((images * up(hidden)).sum().item(), rel=1e-12)


# Batch norm


@pytest.mark.parametrize("offset", [True, False])
def test_each_experts_batch_norm_sees_its_own_samples(offset):
    generator = small(f"model.experts.offset={offset}", "model.gate.same_latents=false").generator
    experts = generator.experts
    norm = next(layer for layer in experts.modules() if isinstance(layer, BN))
    for parameter in norm.parameters():
        nn.init.normal_(parameter)  # all different, so that their order shows
    latent_BZ = generator.latents(3 * 7)
    made_BH, _ = generator.gate.mix(latent_BZ, latent_BZ, experts)
    means = []
    for k in range(3):
        units = latent_BZ[7 * k : 7 * k + 7] @ experts.weight_KZH[k] + experts.bias_KH[k]
        own = slice(32 * k, 32 * k + 32)
        normed = (units - units.mean(dim=0)) / (units.var(dim=0, unbiased=False) + 1e-5).sqrt() * norm.weight[own]
        expected = relu(normed + norm.bias[own] if offset else normed)
        torch.testing.assert_close(made_BH[7 * k : 7 * k + 7], expected, atol=1e-5, rtol=1e-4)
        means.append(units.mean(dim=0))
    torch.testing.assert_close(norm.running_mean, 0.1 * torch.cat(means), atol=1e-6, rtol=1e-4)


def test_trunk_batch_norm_pools_all_experts():
    generator = small().generator
    layer, seen = next(layer for layer in generator.trunk.modules() if isinstance(layer, nn.BatchNorm2d)), []
    layer.register_forward_hook(lambda layer, inputs, output: seen.append(len(inputs[0])))
    generator(generator.latents(3 * 7))
    assert seen == [21]


@pytest.mark.parametrize("offset", [True, False])
def test_fixed_offsets_stay_zero(offset):
    (generator, _), phases = game(f"model.experts.offset={offset}")
    for _ in range(3):
        for phase in phases:
            take_step(phase)
    (first,) = [layer for layer in generator.experts.modules() if isinstance(layer, BN)]
    shared = [layer for layer in generator.trunk.modules() if isinstance(layer, BN)]
    assert len(shared) == 1
    for layer in shared:
        assert layer.bias is None or not layer.bias.any()
        assert (layer.weight != 1).any()
    assert bool(first.bias is not None and first.bias.any()) == offset


# Assignment of samples to experts


def test_experts_train_on_the_same_latents():
    generator = small().generator
    latent_KBZ = generator.latents(12).unflatten(0, (3, 4))
    assert torch.equal(latent_KBZ, latent_KBZ[:1].expand(3, -1, -1))
    assert len(latent_KBZ[0].unique(dim=0)) == 4
    assert latent_KBZ.abs().max() <= 1
    assert len(generator.eval().latents(12).unique(dim=0)) == 12
    apart = small("model.gate.same_latents=false").generator
    assert len(apart.latents(12).unique(dim=0)) == 12


def test_training_batch_is_split_in_expert_order():
    generator = small("model.k=10").generator
    weights_BK = generator(generator.latents(120)).weights_BK
    assert weights_BK.argmax(dim=1).tolist() == [k for k in range(10) for _ in range(12)]
    assert torch.equal(weights_BK.sort(dim=1).values[:, -2:], torch.tensor([0.0, 1.0]).expand(120, 2))


def test_training_batch_must_be_a_multiple_of_k():
    with pytest.raises(ValueError, match="7 latents"):
        small().generator(torch.randn(7, 5))


@pytest.mark.parametrize("n", [24, 23, 22, 2])
def test_sampling_uses_every_expert_equally(n):
    generator = small().generator.eval()
    weights_BK = generator(generator.latents(n)).weights_BK
    assert torch.equal(weights_BK.sum(dim=1), torch.ones(n))
    counts = weights_BK.sum(dim=0)
    assert counts.max() <= math.ceil(n / 3) and counts.sum() == n
    if n % 3 == 0:
        assert (counts == n // 3).all()
        assert weights_BK.argmax(dim=1).diff().ne(0).sum() > 2  # and not in turn


def test_samples_equal_those_of_their_expert():
    generator = small().generator
    for _ in range(3):
        generator(generator.latents(30))  # so that running statistics are somewhere
    latent_BZ = generator.eval().latents(23)
    torch.manual_seed(4)
    samples, weights_BK = generator(latent_BZ)
    alone = torch.stack([generator(latent_BZ, expert=k).samples for k in range(3)])
    torch.testing.assert_close(samples, alone[weights_BK.argmax(dim=1), torch.arange(23)])
    assert (alone[0] - alone[1]).abs().amax(dim=(1, 2, 3)).min() > 1e-5  # so the choice matters
    torch.manual_seed(4)
    again = generator(latent_BZ)
    assert torch.equal(again.samples, samples) and torch.equal(again.weights_BK, weights_BK)
    assert not torch.equal(generator(latent_BZ).weights_BK, weights_BK)


def test_experts_weights_change_only_its_samples():
    generator = small().generator.eval()
    latent_BZ = generator.latents(23)
    torch.manual_seed(4)
    before, weights_BK = generator(latent_BZ)
    with torch.no_grad():
        generator.experts.weight_KZH[1] += 1
    torch.manual_seed(4)
    after = generator(latent_BZ).samples
    changed = (before - after).flatten(1).abs().amax(dim=1) > 0
    assert torch.equal(changed, weights_BK[:, 1].bool())


def test_experts_start_different():
    """On the same latents, experts differ by their weights only."""
    generator = small().generator
    blocks = generator(generator.latents(12)).samples.unflatten(0, (3, 4))
    assert not torch.allclose(blocks[0], blocks[1]) and not torch.allclose(blocks[1], blocks[2])


# Training steps


@pytest.mark.parametrize("k", [2, 3, 10])
def test_zero_heads_give_the_loss_of_chance(k):
    (_, discriminator), (discriminators, generators) = game(f"model.k={k}", "model.beta=0.3")
    for parameter in discriminator.head.parameters():
        nn.init.zeros_(parameter)
    told = take_step(generators)
    assert told["loss/generator"].item() == pytest.approx(math.log(2) + 0.3 * math.log(k), rel=1e-6)
    assert take_step(discriminators)["loss/discriminator"].item() == pytest.approx(2 * math.log(2) + math.log(k))


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_generator_ignores_the_classifier_without_beta(beta):
    found = []
    for factor in (1, 100):
        torch.manual_seed(0)
        (generator, discriminator), (_, phase) = game(f"model.beta={beta}")
        with torch.no_grad():
            discriminator.head.experts.weight *= factor
        torch.manual_seed(1)
        take_step(phase)
        found.append(gradients(generator))
    assert equal(*found) == (beta == 0)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("stop", [False, True])
def test_stop_gradient_keeps_the_classifier_from_the_body(beta, stop):
    """A constant score gives no gradient to the body, so any gradient there comes from the classifier."""
    (_, discriminator), (phase, _) = game(f"model.beta={beta}", f"objective.classifier.stop_gradient={stop}")
    nn.init.zeros_(discriminator.head.score.weight)
    take_step(phase)
    assert discriminator.head.experts.weight.grad.any()
    reached = [gradient.any().item() for gradient in gradients(discriminator.body)]
    assert any(reached) == (not stop)
    if not stop:
        assert discriminator.body[0].weight.grad.abs().max() > 1e-8


@pytest.mark.parametrize("mover", ["discriminator", "generator"])
def test_a_step_trains_one_network(mover):
    players, phases = game("model.beta=1")
    before = {player: values(network) for player, network in players._asdict().items()}
    take_step(next(phase for phase in phases if mover in phase.optimizers))
    for player, network in players._asdict().items():
        assert equal(values(network), before[player]) == (player != mover)


def test_equal_experts_keep_the_classifier_at_chance():
    (generator, discriminator), (phase, _) = game("model.experts.offset=true")
    with torch.no_grad():
        generator.experts.weight_KZH.copy_(generator.experts.weight_KZH[:1].expand(3, -1, -1).clone())
    nn.init.normal_(discriminator.head.experts.weight)
    blocks = generator(generator.latents(12)).samples.unflatten(0, (3, 4))
    torch.testing.assert_close(blocks, blocks[:1].expand(3, -1, -1, -1, -1), atol=1e-7, rtol=1e-5)
    for _ in range(5):
        assert take_step(phase)["loss/classifier"].item() >= math.log(3)
