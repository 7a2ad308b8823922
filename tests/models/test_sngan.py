"""SNGAN's networks against the specification: counts, and a second implementation without modules."""

import copy
import math
from functools import cache

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, interpolate

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks, parameter_counts
from tests.conftest import composed

SINGLE = ("model=gan", "model/experts=linear", "objective=hinge")
COUNTS = [  # backbone, pixels, Z, overrides, parameters of generator and discriminator: computed in the specification
    ("sngan_resnet", 32, 128, {"last_bias": False}, 4_276_739, 1_053_824),
    ("sngan_resnet", 32, 128, {"channels": 128}, 1_204_483, 264_769),
    ("sngan_resnet", 48, 128, {}, 4_878_083, 10_141_441),
    ("sngan_resnet", 64, 128, {}, 12_220_675, 10_141_441),
    ("sngan_dcgan", 32, 100, {}, 3_584_003, 5_860_865),
    ("sngan_dcgan", 32, 128, {}, 3_813_379, 5_860_865),
    ("sngan_dcgan", 48, 100, {}, 4_618_243, 5_871_105),
    ("sngan_dcgan", 64, 100, {}, 6_066_179, 5_885_441),
]


once_composed = cache(composed)  # composing is what takes time


def networks(backbone, size, latent=128, **overrides):
    """The networks with these arguments of the backbone."""
    model = once_composed(*SINGLE, f"model/backbone={backbone}").model
    latents = model.latent.model_copy(update={"size": latent})
    changed = model.model_copy(update={"backbone": model.backbone | overrides, "latent": latents})
    return build_networks(changed, (3, size, size))


@pytest.mark.parametrize(("backbone", "size", "latent", "overrides", "generator", "discriminator"), COUNTS)
def test_parameter_counts(backbone, size, latent, overrides, generator, discriminator):
    with torch.device("meta"):
        counts = parameter_counts(networks(backbone, size, latent, **overrides))
    assert (counts["generator"], counts["discriminator"]) == (generator, discriminator)


# A second implementation


def batch_norm(x, scale, offset):
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * scale.view(-1, 1, 1) + offset.view(-1, 1, 1)


def up(x, mode):
    if mode == "nearest":
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def taker(weights):
    values = iter(weights)
    return values, lambda n=2: [next(values) for _ in range(n)]


def by_hand_resnet_generator(weights, latent, start, blocks, mode):
    values, take = taker(weights)
    weight, bias = take()
    x = (latent @ weight + bias).unflatten(1, (-1, start, start))
    for _ in range(blocks):
        norm, first, second_norm, second, shortcut = (take() for _ in range(5))
        h = conv2d(up(batch_norm(x, *norm).relu(), mode), *first, padding=1)
        h = conv2d(batch_norm(h, *second_norm).relu(), *second, padding=1)
        x = h + conv2d(up(x, mode), *shortcut)
    norm, last = take(), take()
    assert next(values, None) is None
    return conv2d(batch_norm(x, *norm).relu(), *last, padding=1).tanh()


def normalised(layer):
    """One power iteration from the stored vectors, then W / uᵀ W v, where v is Wᵀ u / ‖Wᵀ u‖."""
    weight = layer.parametrizations.weight.original.detach()
    matrix, v = weight.flatten(1), layer.parametrizations.weight[0]._v
    u = matrix @ v
    u = u / u.norm()
    return weight / (matrix.T @ u).norm()


def by_hand_resnet_discriminator(layers, x, downs):
    """Layers in order: their normalised weights and biases."""
    values, take = taker(layers)
    for number, (down, changes) in enumerate(downs):
        (first, second), shortcut = take(), take(1) if changes else None
        h = conv2d((x if number == 0 else x.relu()), *first, padding=1)
        h = conv2d(h.relu(), *second, padding=1)
        if shortcut and number == 0:  # pooled first, which is the same before a 1×1 convolution
            x = conv2d(avg_pool2d(x, 2), *shortcut[0])
        elif shortcut:
            x = conv2d(x, *shortcut[0])
            x = avg_pool2d(x, 2) if down else x
        x = (avg_pool2d(h, 2) if down else h) + x
    features = x.relu().sum(dim=(2, 3))
    ((weight, bias),) = take(1)
    assert next(values, None) is None
    return features, features @ weight[0] + bias


DOWNS = {  # of each block of the discriminator: does it halve the side, does its width change or the side
    8: [(True, True), (False, False), (False, False)],
    32: [(True, True), (True, True), (False, False), (False, False)],
    48: [(True, True), *[(True, True)] * 3, (False, True)],
    64: [(True, True)] * 5,
}


@pytest.mark.parametrize(
    ("size", "mode"), [(8, "nearest"), (32, "nearest"), (32, "bilinear"), (48, "nearest"), (64, "nearest")]
)
def test_resnet_equals_a_second_implementation(size, mode):
    generator, discriminator = networks("sngan_resnet", size, 5, channels=16, upsampling=mode)
    generator, discriminator = generator.double(), discriminator.double()
    randomise(generator, discriminator)
    latent, start = torch.randn(4, 5).double(), {48: 6}.get(size, 4)
    first = [generator.experts.weight_KZH[0], generator.experts.bias_KH[0]]
    weights = [value.detach() for value in (*first, *generator.trunk.parameters())]
    image = by_hand_resnet_generator(weights, latent, start, int(math.log2(size // start)), mode)
    torch.testing.assert_close(generator(latent).samples.detach(), image, rtol=1e-8, atol=1e-9)
    compare_discriminators(discriminator, image, lambda layers, x: by_hand_resnet_discriminator(layers, x, DOWNS[size]))


def randomise(*players):
    for player in players:
        for parameter in player.parameters():
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, std=0.5)


def compare_discriminators(discriminator, image, by_hand):
    layers = [layer for layer in discriminator.modules() if hasattr(layer, "parametrizations")]
    weights = [(normalised(layer), layer.bias.detach()) for layer in layers]
    features, score = by_hand(weights, image)
    output = discriminator(image)
    torch.testing.assert_close(output.features_NF.detach(), features, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(output.scores_N.detach(), score, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("size", [8, 32, 48])
def test_dcgan_equals_a_second_implementation(size):
    generator, discriminator = networks("sngan_dcgan", size, 5, channels=4)
    generator, discriminator = generator.double(), discriminator.double()
    randomise(generator, discriminator)
    latent = torch.randn(4, 5).double()
    first = [generator.experts.weight_KZH[0].detach(), generator.experts.bias_KH[0].detach()]
    values, take = taker([value.detach() for value in generator.trunk.parameters()])
    x = (latent @ first[0] + first[1]).unflatten(1, (32, size // 8, size // 8))
    for _ in range(3):
        x = conv_transpose2d(batch_norm(x, *take()).relu(), *take(), stride=2, padding=1)
    image = conv2d(batch_norm(x, *take()).relu(), *take(), padding=1).tanh()
    assert next(values, None) is None
    torch.testing.assert_close(generator(latent).samples.detach(), image, rtol=1e-8, atol=1e-9)

    def by_hand(layers, x):
        *convolutions, (weight, bias) = layers
        assert len(convolutions) == 7
        for number, layer in enumerate(convolutions):
            h = conv2d(x, *layer, stride=1 + number % 2, padding=1)
            x = torch.where(h > 0, h, 0.1 * h)
        return x.flatten(1), x.flatten(1) @ weight[0] + bias

    compare_discriminators(discriminator, image, by_hand)


# Spectral norm and initialisation


@pytest.mark.parametrize("backbone", ["sngan_resnet", "sngan_dcgan"])
def test_largest_singular_values_are_one_after_20_passes(backbone):
    _, discriminator = networks(backbone, 32, channels=64 if backbone == "sngan_resnet" else 16)
    images = torch.randn(2, 3, 32, 32)
    for _ in range(20):
        discriminator(images)
    for layer in discriminator.modules():
        if hasattr(layer, "parametrizations"):
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
            assert largest == pytest.approx(1, abs=0.05)


def test_one_power_iteration_per_training_pass_and_none_in_evaluation():
    _, discriminator = networks("sngan_resnet", 32, channels=16)
    layer = discriminator.head.score
    weight, v = layer.parametrizations.weight.original.detach(), layer.parametrizations.weight[0]._v.clone()
    discriminator(torch.randn(2, 3, 32, 32))
    u = weight @ v / (weight @ v).norm()
    torch.testing.assert_close(layer.parametrizations.weight[0]._u, u)
    torch.testing.assert_close(layer.parametrizations.weight[0]._v, weight.T @ u / (weight.T @ u).norm())
    state = copy.deepcopy(discriminator.eval().state_dict())
    discriminator(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, state[name]) for name, value in discriminator.state_dict().items())
    assert "head.score.parametrizations.weight.0._u" in state  # a checkpoint has them


def test_spectral_norm_is_differentiable_twice():
    """With the vectors of a pass held fixed: the penalty's gradient against a difference over one weight."""
    _, discriminator = networks("sngan_resnet", 8, channels=8)
    discriminator = discriminator.double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
    weight = discriminator.head.score.parametrizations.weight.original

    def penalty():
        (gradient,) = torch.autograd.grad(discriminator(images).scores_N.sum(), images, create_graph=True)
        return gradient.square().sum()

    penalty().backward()
    expected, values = weight.grad[0, 1].item(), []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            weight[0, 1] += step
        values.append(penalty().item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(expected, rel=1e-4, abs=1e-10)


def test_initialisation_of_the_resnet():
    """Glorot uniform: gain √2 for the 3×3 convolutions of blocks, 1 for all others; biases 0."""
    generator, discriminator = networks("sngan_resnet", 32, channels=128)
    layers = [*generator.trunk.modules(), *discriminator.modules()]
    convolutions = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        weight = getattr(layer, "parametrizations", None)
        weight = (layer.weight if weight is None else weight.weight.original).detach()
        gain = math.sqrt(2) if weight.shape[2] == 3 and len(weight) != 3 else 1
        bound = gain * math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()))
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.05) and weight.abs().max() <= bound
        assert not layer.bias.any()
    assert len(convolutions) == 3 * 3 + 1 + 3 + 3 + 2 + 2


@pytest.mark.parametrize(("backbone", "size"), [("sngan_resnet", 24), ("sngan_resnet", 128), ("sngan_dcgan", 28)])
def test_sizes_that_are_refused(backbone, size):
    with pytest.raises(ConfigError, match=f"data.size={size}: model/backbone={backbone}"):
        networks(backbone, size)
