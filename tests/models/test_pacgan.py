"""PacGAN's networks against the specification: counts, shapes, and second implementations without modules."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.backbones.mggan import TFPaddedConv2d, TFPaddedConvTranspose2d
from mixgan_cli.models.backbones.pacgan import Maxout
from mixgan_cli.models.networks import build_networks, packed_shape, parameter_counts
from tests.conftest import composed

SINGLE = ("model=gan", "model/experts=linear", "model.experts.init=backbone", "objective=non_saturating")
RGB = (3, 28, 28)
COUNTS = [  # backbone, shape, Z, overrides, parameters of the generator, of the discriminator for 1, 2, … in a pack
    ("pacgan_points", (2,), 2, {}, None, (405_201, 407_201, 409_201, 411_201)),
    ("pacgan_dcgan", RGB, 100, {}, 4_514_819, (4_310_401, 4_315_201, 4_320_001, 4_324_801)),
    ("pacgan_small", RGB, 256, {"discriminator_channels": 2}, 287_875, (585, 639, 693, 747)),
    ("pacgan_small", RGB, 256, {}, 287_875, (1_889, 1_997, 2_105, 2_213)),
]  # all but those of the points' three in a pack are in the specification


once_composed = cache(composed)  # composing is what takes time


def networks(backbone, shape, latent=100, m=1, **overrides):
    """The networks with these arguments of the backbone."""
    model = once_composed(*SINGLE, f"model/backbone={backbone}").model
    latents = model.latent.model_copy(update={"size": latent})
    changed = {"backbone": model.backbone | overrides, "latent": latents, "pack": m}
    return build_networks(model.model_copy(update=changed), shape)


@pytest.mark.parametrize(("backbone", "shape", "latent", "overrides", "generator", "discriminators"), COUNTS)
def test_parameter_counts(backbone, shape, latent, overrides, generator, discriminators):
    for m, discriminator in enumerate(discriminators, 1):
        with torch.device("meta"):
            counts = parameter_counts(networks(backbone, shape, latent, m, **overrides))
        assert counts["discriminator"] == discriminator, m
        assert generator in (None, counts["generator"])


def test_points_generator_has_the_published_layers():
    """2-400-400-400-400-2 with biases, and a scale and an offset for each hidden unit."""
    with torch.device("meta"):
        counts = parameter_counts(networks("pacgan_points", (2,), 2))
    assert counts["generator"] == (2 + 1) * 400 + 3 * (400 + 1) * 400 + (400 + 1) * 2 + 4 * 2 * 400


@pytest.mark.parametrize(("backbone", "shape"), [(name, shape) for name, shape, *_ in COUNTS[:3]])
@pytest.mark.parametrize("model", ["mggan", "megan", "hmog", "megan_hidden"])
def test_every_kind_of_experts_fits(backbone, shape, model):
    """K first layers in front of the same trunk, and whole networks."""
    chosen = once_composed(f"model={model}", f"model/backbone={backbone}", "model.k=2").model
    small = {"channels": 2, "discriminator_channels": 2} if len(shape) == 3 else {"generator_widths": (8, 8)}
    model = chosen.model_copy(update={"backbone": chosen.backbone | small})
    generator, discriminator = build_networks(model, shape)
    samples = generator(generator.latents(8)).samples
    assert samples.shape == (8, *shape) and discriminator(samples).scores_N.shape == (8,)


@pytest.mark.parametrize("backbone", ["pacgan_dcgan", "pacgan_small"])
@pytest.mark.parametrize("side", [28, 32, 19])
def test_images_of_any_side_are_doubled_and_halved(backbone, side):
    layers = {"channels": 2, "discriminator_channels": 2}
    generator, discriminator = networks(backbone, (3, side, side), 5, m=2, **layers)
    images = generator(generator.latents(4)).samples
    assert images.shape == (4, 3, side, side) and images.abs().max() <= 1
    assert discriminator(images.reshape(2, *packed_shape((3, side, side), 2))).scores_N.shape == (2,)


# Second implementations


def same_convolution(image, kernel, bias):
    """TensorFlow's SAME convolution with stride 2, from its documentation: pads ⌊total/2⌋ before, the rest after."""
    (outputs, _, size, _), side = kernel.shape, image.shape[-1]
    out = -(-side // 2)
    total = max((out - 1) * 2 + size - side, 0)
    padded = np.pad(image, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2)))
    maps = np.zeros((outputs, out, out))
    for channel, row, column in np.ndindex(*maps.shape):
        patch = padded[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size]
        maps[channel, row, column] = (patch * kernel[channel]).sum() + bias[channel]
    return maps


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("side", [6, 7])
def test_convolution_pads_as_tensorflow(size, side):
    torch.manual_seed(0)
    layer, image = TFPaddedConv2d(2, 3, size).double(), torch.randn(1, 2, side, side, dtype=torch.float64)
    expected = same_convolution(image[0].numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy())
    np.testing.assert_allclose(layer(image)[0].detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("side", [6, 7])
def test_transposed_convolution_is_the_adjoint(size, side):
    """<conv x, y> = <x, transposed y> for the same kernel, without biases."""
    torch.manual_seed(0)
    down = TFPaddedConv2d(2, 3, size).double()
    up = TFPaddedConvTranspose2d(3, 2, size, odd=side % 2 == 1).double()
    up.weight.data, up.bias.data, down.bias.data = down.weight.data, torch.zeros(2).double(), torch.zeros(3).double()
    x, y = (torch.randn(1, c, s, s, dtype=torch.float64) for c, s in ((2, side), (3, -(-side // 2))))
    assert up(y).shape == x.shape
    assert (down(x) * y).sum().item() == pytest.approx((x * up(y)).sum().item(), rel=1e-12)


def test_maxout_is_the_largest_of_its_linear_functions():
    torch.manual_seed(0)
    layer, x = Maxout(3, 4, 5).double(), torch.randn(6, 3, dtype=torch.float64)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    pieces = np.einsum("upi,ni->nup", weight.reshape(4, 5, 3), x.numpy()) + bias.reshape(4, 5)
    np.testing.assert_allclose(layer(x).detach().numpy(), pieces.max(axis=2), rtol=1e-12)


def batch_norm(x, axes=0):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def test_generator_of_points_by_hand():
    """At the start scales are 1 and offsets 0: linear, then batch norm, ReLU and linear, four times."""
    torch.manual_seed(0)
    generator = networks("pacgan_points", (2,), 2, generator_widths=(6, 5, 4)).generator.double()
    latent = torch.randn(7, 2, dtype=torch.float64)
    weight, bias = (values.detach().numpy()[0] for values in generator.experts.parameters())
    x = latent.numpy() @ weight + bias
    for _, _, dense in generator.trunk:
        x = np.maximum(batch_norm(x), 0) @ dense.weight.detach().numpy().T + dense.bias.detach().numpy()
    np.testing.assert_allclose(generator(latent).samples.detach().numpy(), x, rtol=1e-9)


def test_small_discriminator_by_hand():
    """Three times convolution, batch norm, leaky ReLU of slope 0.3; then one linear function of all maps."""
    torch.manual_seed(0)
    critic = networks("pacgan_small", (3, 9, 9), m=2).discriminator.double()
    x = torch.randn(4, 6, 9, 9, dtype=torch.float64)
    convolutions = [layer for layer in critic.body if isinstance(layer, TFPaddedConv2d)]
    maps = x.numpy()
    for layer in convolutions:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        maps = batch_norm(np.stack([same_convolution(image, weight, bias) for image in maps]), (0, 2, 3))
        maps = np.where(maps > 0, maps, 0.3 * maps)
    expected = maps.reshape(4, -1) @ critic.head.score.weight.detach().numpy()[0] + critic.head.score.bias.item()
    assert len(convolutions) == 3
    np.testing.assert_allclose(critic(x).scores_N.detach().numpy(), expected, rtol=1e-9)


def test_image_of_the_small_generator_is_made_by_a_convolution():
    torch.manual_seed(0)
    generator = networks("pacgan_small", RGB, 5, channels=2).generator
    convolution, maps = generator.trunk[-1][-2], []
    handle = convolution.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    images = generator(generator.latents(4)).samples
    handle.remove()
    expected = conv2d(maps[0], convolution.weight, convolution.bias, padding=1).tanh()
    torch.testing.assert_close(images, expected)
    assert maps[0].shape == (4, 2, 28, 28) and maps[0].min() >= 0


@pytest.mark.parametrize("init", ["fan_in", "backbone"])
def test_first_layers_begin_like_the_backbones(init):
    torch.manual_seed(0)
    model = once_composed(*SINGLE, "model/backbone=pacgan_points").model
    model = model.model_copy(update={"experts": model.experts | {"init": init}})
    weight = build_networks(model, (2,)).generator.experts.weight_KZH
    assert weight.std().item() == pytest.approx(0.02 if init == "backbone" else 0.1, rel=0.02)  # 100 latents


@pytest.mark.parametrize(
    ("backbone", "shape", "overrides", "reason"),
    [
        ("pacgan_points", (3, 28, 28), {}, "pacgan_points makes points, the data are images"),
        ("pacgan_points", (2,), {"generator_widths": ()}, r"generator_widths=\[\]: the network needs a hidden layer"),
        ("pacgan_dcgan", (2,), {}, "pacgan_dcgan makes images, the data are points"),
        ("pacgan_dcgan", (3, 8, 8), {}, "data.size=8: model.backbone.layers=4 halves it 4 times. Take at least 16"),
    ],
)
def test_other_samples_are_refused(backbone, shape, overrides, reason):
    with pytest.raises(ConfigError, match=reason):
        networks(backbone, shape, **overrides)
