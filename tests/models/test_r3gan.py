"""R3GAN's networks against the specification: counts, initialisation, and a second implementation without modules."""

import math
from functools import cache

import pytest
import torch
from torch.nn.functional import conv2d

from mixgan_cli.errors import ConfigError
from mixgan_cli.models import BasisExperts
from mixgan_cli.models.backbones.r3gan import R3GAN, Resample
from mixgan_cli.models.networks import build_networks, parameter_counts
from tests.conftest import composed

SINGLE = ("model=gan", "model/backbone=r3gan", "model/experts=basis", "model.latent.size=64", "objective=r3gan")


once_composed = cache(composed)  # composing is what takes time


def networks(size=32, **overrides):
    """The networks with these arguments of the backbone."""
    model = once_composed(*SINGLE).model
    return build_networks(model.model_copy(update={"backbone": model.backbone | overrides}), (3, size, size))


COUNTS = {  # size, overrides of the backbone: parameters of generator and discriminator, computed in the specification
    "CIFAR-10 and Stacked-MNIST": (32, {}, 20_732_160, 20_683_776),
    "FFHQ-64": (64, {}, 22_429_824, 22_381_440),
    "width 384": (32, {"channels": 384}, 5_647_488, 5_623_296),
    "width 192": (32, {"channels": 192}, 1_644_096, 1_632_000),
    "width 192, one block": (32, {"channels": 192, "blocks": 1}, 830_016, 817_920),
    "width 128, one block": (32, {"channels": 128, "blocks": 1}, 422_272, 414_208),
    "width 96, one block": (32, {"channels": 96, "blocks": 1}, 267_552, 261_504),
    "64 px, width 192, one block": (64, {"channels": 192, "blocks": 1}, 913_056, 900_960),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
    size, overrides, generator, discriminator = COUNTS[name]
    with torch.device("meta"):
        counts = parameter_counts(networks(size, **overrides))
    assert (counts["generator"], counts["discriminator"]) == (generator, discriminator)


@pytest.mark.parametrize(("channels", "count"), [(96, 7_680), (192, 15_360), (384, 30_720), (768, 61_440)])
def test_parameter_count_of_basis_experts(channels, count):
    experts = BasisExperts(3, 64, 16 * channels, R3GAN((3, 32, 32), channels, 1, 16))
    assert sum(parameter.numel() for parameter in experts.parameters()) == 3 * count


# A second implementation


def leaky(x):
    return torch.where(x > 0, x, 0.2 * x)


def grouped(x, weight, bias, groups):
    """A 3×3 convolution in groups, one after the other."""
    parts = zip(x.chunk(groups, 1), weight.chunk(groups), strict=True)
    return torch.cat([conv2d(part, w, padding=1) for part, w in parts], 1) + bias.view(-1, 1, 1)


def mixed(x, weight):
    """A 1×1 convolution without bias, as a product over channels."""
    return torch.einsum("oi,nihw->nohw", weight.flatten(1), x)


def residual(x, take, groups):
    first, bias, second, second_bias, third = (take() for _ in range(5))
    h = leaky(mixed(x, first) + bias.view(-1, 1, 1))
    return x + mixed(leaky(grouped(h, second, second_bias, groups)), third)


def along(x, axis, rule):
    return rule(x.movedim(axis, 0)).movedim(0, axis)


def doubled(x):
    """Along one axis: (3 x_m + x_{m-1})/4 and (3 x_m + x_{m+1})/4, zeros outside."""
    zero = torch.zeros_like(x[:1])
    before, after = torch.cat([zero, x[:-1]]), torch.cat([x[1:], zero])
    return torch.stack([(3 * x + before) / 4, (3 * x + after) / 4], 1).flatten(0, 1)


def halved(x):
    """Along one axis: (x_{2m-1} + 3 x_2m + 3 x_{2m+1} + x_{2m+2})/8, zeros outside."""
    even, odd, zero = x[::2], x[1::2], torch.zeros_like(x[:1])
    return (torch.cat([zero, odd[:-1]]) + 3 * even + 3 * odd + torch.cat([even[1:], zero])) / 8


def by_hand_generator(weights, latent, widths, blocks, groups):
    values = iter(weights)
    take = values.__next__
    basis, projection = take(), take()  # [C, 4, 4] and [C, Z]
    x = basis * (latent @ projection.T)[:, :, None, None]
    for stage, width in enumerate(widths):
        if stage:
            if width != widths[stage - 1]:
                x = mixed(x, take())
            x = along(along(x, 2, doubled), 3, doubled)
        for _ in range(blocks):
            x = residual(x, take, groups[stage])
    image = mixed(x, take())
    assert next(values, None) is None
    return image


def by_hand_discriminator(weights, x, widths, blocks, groups):
    values = iter(weights)
    take = values.__next__
    x = mixed(x, take())
    for stage in reversed(range(len(widths))):
        for _ in range(blocks):
            x = residual(x, take, groups[stage])
        if stage:
            x = along(along(x, 2, halved), 3, halved)
            if widths[stage] != widths[stage - 1]:
                x = mixed(x, take())
    features = (x * take()).sum(dim=(2, 3))
    score = features @ take()[0]
    assert next(values, None) is None
    return features, score


@pytest.mark.parametrize(("size", "channels", "blocks"), [(8, 16, 2), (32, 8, 1), (64, 32, 1)])
def test_forward_passes_equal_a_second_implementation(size, channels, blocks):
    """With random weights instead of the initial ones, which leave out the blocks."""
    generator, discriminator = networks(size, channels=channels, blocks=blocks)
    for parameter in (*generator.parameters(), *discriminator.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    generator, discriminator = generator.double(), discriminator.double()
    widths = [channels * 32 // max(32, 4 * 2**i) for i in range(int(math.log2(size // 4)) + 1)]
    groups = [max(1, 2 * width // 16) for width in widths]
    basis, weight = generator.experts.basis_KCP, generator.experts.weight_KZC
    latent = torch.randn(3, 64).double()
    first = [basis[0].detach().unflatten(1, (4, 4)), weight[0].detach().T]
    weights = [*first, *(value.detach() for value in generator.trunk.parameters())]
    image = by_hand_generator(weights, latent, widths, blocks, groups)
    torch.testing.assert_close(generator(latent).samples.detach(), image, rtol=1e-9, atol=1e-9)
    weights = [value.detach() for value in discriminator.parameters()]
    features, score = by_hand_discriminator(weights, image, widths, blocks, groups)
    output = discriminator(image)
    torch.testing.assert_close(output.features_NF.detach(), features, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.scores_N.detach(), score, rtol=1e-9, atol=1e-9)


# Layers


def test_borders_of_the_filters():
    up, down = Resample("up")(torch.ones(1, 2, 4, 4)), Resample("down")(torch.ones(1, 2, 4, 4))
    assert up[0, 0, 0, 0] == 0.5625 and (up[0, :, 0, 1:-1] == 0.75).all() and (up[0, :, 1:-1, 1:-1] == 1).all()
    assert (down == 0.765625).all() and down.shape == (1, 2, 2, 2)


@pytest.mark.parametrize("way", ["up", "down"])
def test_filters_are_differentiable_twice(way):
    images = torch.randn(1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: Resample(way)(x).square(), (images,))


def test_up_sampling_is_bilinear_inside():
    images = torch.randn(1, 3, 6, 6)
    bilinear = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Resample("up")(images)[..., 1:-1, 1:-1], bilinear[..., 1:-1, 1:-1])


def test_blocks_are_the_identity_at_first():
    """Then a generator is its basis layer, up-sampled, and the gradient of the third convolution is not 0."""
    generator, discriminator = networks(16, channels=32)
    latent = torch.randn(2, 64)
    hidden = generator.experts.mix(latent, torch.ones(2, 1)).unflatten(1, (32, 4, 4))
    image = mixed(Resample("up")(Resample("up")(hidden)), list(generator.trunk.parameters())[-1])
    torch.testing.assert_close(generator(latent).samples, image)
    first, *_, basis = discriminator.body.parameters()
    x = Resample("down")(Resample("down")(mixed(image, first)))
    torch.testing.assert_close(discriminator(image).features_NF, (x * basis).sum(dim=(2, 3)))


@pytest.mark.parametrize(
    ("blocks", "size", "gain"), [(1, 32, 0.98058), (1, 64, 0.92738), (2, 32, 0.82457), (2, 64, 0.77983)]
)
def test_fix_up_initialisation(blocks, size, gain):
    """Standard deviations gain/√fan_in for L blocks in all, biases and last convolutions 0."""
    generator, discriminator = networks(size, channels=192, blocks=blocks)
    named = dict(generator.trunk.named_parameters()) | dict(discriminator.body.named_parameters())
    first = torch.cat([w.flatten() for name, w in named.items() if name.endswith("expand.weight") and len(w) == 384])
    second = torch.cat([w.flatten() for name, w in named.items() if name.endswith("spatial.weight")])
    assert first.std().item() == pytest.approx(gain / math.sqrt(192), rel=0.01)
    assert second.std().item() == pytest.approx(gain / math.sqrt(16 * 9), rel=0.01)
    assert not any(value.any() for name, value in named.items() if name.endswith(("bias", "project.weight")))
    assert discriminator.head.score.weight.std().item() == pytest.approx(1 / math.sqrt(192), rel=0.2)
    assert discriminator.head.score.bias is None


@pytest.mark.parametrize("size", [32, 64])
def test_variance_of_images_at_first(size):
    """0.263 on average over initialisations."""
    variances = []
    for seed in range(12):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(*R3GAN((3, size, size), 16, 1, 16).stages(64))
        with torch.no_grad():
            variances.append(network(torch.randn(16, 64)).var().item())
    assert sum(variances) / len(variances) == pytest.approx(0.263, rel=0.2)


@pytest.mark.parametrize("size", [4, 12, 28, 512])
def test_sizes_that_are_refused(size):
    with pytest.raises(ConfigError, match=f"data.size={size}: model/backbone=r3gan"):
        R3GAN((3, size, size), 64, 1, 16)


def test_channels_that_cannot_be_halved_are_refused():
    with pytest.raises(ConfigError, match=r"model\.backbone\.channels=6"):
        R3GAN((3, 256, 256), 6, 1, 16)
