"""The networks compared with the tables of the papers."""

import math

import pytest
import torch
from torch import nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.layers import LayerNorm
from mixgan_cli.models.networks import build_networks, parameter_counts
from tests.conftest import composed

ORACLE = [  # (model, K, pixels, parameters of gate and experts): HMoG thesis, recomputed in the specification
    ("gan", 1, 32, 413_696),
    ("hmog", 4, 32, 1_655_087),
    ("hmog", 8, 32, 3_310_275),
    ("hmog", 16, 32, 6_620_651),
    ("hmog", 32, 32, 13_241_403),
    ("mog", 4, 32, 1_655_188),
    ("mog", 8, 32, 3_310_376),
    ("mog", 16, 32, 6_620_752),
    ("mog", 32, 32, 13_241_504),
    ("gan", 1, 64, 827_392),
    ("hmog", 4, 64, 3_309_871),
    ("hmog", 8, 64, 6_619_843),
    ("hmog", 16, 64, 13_239_787),
    ("hmog", 32, 64, 26_479_675),
    ("mog", 4, 64, 4 * 8192 * 101 + 4 * 101),
    ("mog", 8, 64, 8 * 8192 * 101 + 8 * 101),
    ("mog", 16, 64, 16 * 8192 * 101 + 16 * 101),
    ("mog", 32, 64, 32 * 8192 * 101 + 32 * 101),
]


def networks(*overrides, shape=(1, 32, 32)):
    return build_networks(composed("data=mnist", *overrides).model, shape)


def layers(network):
    """The layers of a network, one after the other."""
    return [layer for layer in network.modules() if not list(layer.children())]


@pytest.mark.parametrize(("model", "k", "size", "front_end"), ORACLE)
def test_parameter_counts_match_the_thesis(model, k, size, front_end):
    channels = {32: 1, 64: 3}[size]
    counts = parameter_counts(networks(f"model={model}", f"model.k={k}", shape=(channels, size, size)))
    assert counts["gate"] + counts["experts"] == front_end
    assert counts["trunk"] == {32: 656_577, 64: 2_756_035}[size]
    assert counts["discriminator"] == {32: 718_273, 64: 3_010_497}[size]
    assert counts["generator"] == front_end + counts["trunk"]


@pytest.mark.parametrize(("k", "size"), [(32, 32), (256, 32), (64, 64)])
def test_parameter_counts_with_constant_leaves(k, size):
    counts = parameter_counts(
        networks("model=hmog", "model/experts=constant", f"model.k={k}", shape=({32: 1, 64: 3}[size], size, size))
    )
    hidden = {32: 4096, 64: 8192}[size]
    assert counts["gate"] + counts["experts"] == k * hidden + (k - 1) * 101


@pytest.mark.parametrize("size", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_keep_the_shape_of_images(size, channels):
    generator, discriminator = networks(shape=(channels, size, size))
    samples, weights = generator(generator.latents(2))
    assert samples.shape == (2, channels, size, size) and samples.abs().max() <= 1
    assert weights.shape == (2, 8)
    assert discriminator(samples).scores_N.shape == (2,)


def test_layers_match_the_paper():
    generator, discriminator = networks()
    trunk = [type(layer) for layer in layers(generator.trunk)]
    up = nn.ConvTranspose2d
    assert trunk == [nn.Unflatten, up, nn.ReLU, up, nn.ReLU, up, nn.Tanh]
    block = [nn.Conv2d, LayerNorm, nn.LeakyReLU]
    assert [type(layer) for layer in layers(discriminator.body)] == [*block, *block, *block, nn.Flatten]
    for layer in [*layers(generator.trunk), *layers(discriminator.body)]:
        if isinstance(layer, (nn.Conv2d, up)):
            assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert layer.bias.abs().max() > 0  # biases too are drawn from N(0, 0.02²)
        if isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.2


def test_no_nonlinearity_between_mixture_and_trunk():
    """One saturated leaf: the image is trunk(W z + b), and W z + b has both signs."""
    generator, _ = networks("model=hmog", "model.k=2")
    latent_BZ = generator.latents(3)
    hidden_BH = torch.einsum("bz,zh->bh", latent_BZ, generator.experts.weight_KZH[1]) + generator.experts.bias_KH[1]
    assert (hidden_BH < 0).any() and (hidden_BH > 0).any()
    torch.testing.assert_close(generator(latent_BZ, expert=1).samples, generator.trunk(hidden_BH))


def test_one_leaf_differs_from_the_baseline():
    """The baseline has a ReLU after its dense layer; a tree with one leaf does not."""
    latent_BZ = torch.randn(4, 100)
    baseline, leaf = networks("model=gan").generator, networks("model=hmog", "model.k=1").generator
    assert (baseline.experts.mix(latent_BZ, torch.ones(4, 1)) >= 0).all()
    assert (leaf.experts.mix(latent_BZ, torch.ones(4, 1)) < 0).any()


def test_spectral_norm_bounds_every_layer():
    _, discriminator = networks("model.backbone.spectral_norm=true", "model.backbone.discriminator_norm=none")
    for _ in range(50):
        discriminator(torch.randn(4, 1, 32, 32))
    layers = [layer for layer in discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 4
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
        assert largest == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.LayerNorm), ("none", type(None))])
def test_discriminator_norm_selects_the_layers(norm, kind):
    _, discriminator = networks(f"model.backbone.discriminator_norm={norm}")
    norms = [layer for layer in discriminator.body if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm))]
    assert len(norms) == (0 if norm == "none" else 3) and all(isinstance(layer, kind) for layer in norms)


def test_generator_norm_excludes_the_last_layer():
    generator, _ = networks("model.backbone.generator_norm=batch")
    found = layers(generator.trunk)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in found) == 2
    assert [type(layer) for layer in found[-2:]] == [nn.ConvTranspose2d, nn.Tanh]


@pytest.mark.parametrize("size", [4, 28, 48, 256])
def test_dcgan_rejects_sizes_that_do_not_halve_to_four(size):
    with pytest.raises(ConfigError, match=f"data.size={size}"):
        networks(shape=(1, size, size))


def test_images_that_are_not_square_name_a_key_of_arrays():
    with pytest.raises(ConfigError, match=r"16×24.*data\.size") as caught:
        networks("data=arrays", "data.root=a.npy", shape=(3, 16, 24))
    assert "data.crop" not in str(caught.value)


def test_backbone_must_fit_points_or_images():
    with pytest.raises(ConfigError, match="model/backbone=mlp"):
        networks(shape=(2,))
    with pytest.raises(ConfigError, match="model/backbone=dcgan"):
        networks("data=ring", shape=(1, 32, 32))


def test_toy_networks_match_the_thesis():
    generator, discriminator = networks("data=ring", "model=gan", "model.latent.size=2", shape=(2,))
    widths = [layer.out_features for layer in layers(generator.trunk) if isinstance(layer, nn.Linear)]
    assert [generator.experts.bias_KH.shape[1], *widths] == [20, 20, 20, 20, 2]
    assert [layer.out_features for layer in layers(discriminator.body) if isinstance(layer, nn.Linear)] == [20] * 4
    bare, _ = networks("data=ring", "model.backbone.generator_widths=[]", shape=(2,))
    assert len(bare.trunk) == 0 and bare(bare.latents(3)).samples.shape == (3, 2)


def test_toy_networks_use_he_initialisation():
    generator, discriminator = networks(
        "data=ring", "model=gan", "model.backbone.discriminator_widths=[400]", shape=(2,)
    )
    head = discriminator.head.score
    assert head.weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.15) and not head.bias.any()
    assert generator.experts.weight_KZH.std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.1)


def test_gate_stays_in_float32_under_autocast():
    generator, _ = networks("model.k=32")
    with torch.autocast("cpu", torch.bfloat16):
        samples, weights = generator(generator.latents(64))
    assert weights.dtype == torch.float32 and samples.shape == (64, 1, 32, 32)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(64))


@pytest.mark.parametrize(("prior", "std"), [("normal", 1.0), ("uniform", 1 / math.sqrt(3))])
def test_latents_follow_the_prior(prior, std):
    latents = networks(f"model.latent.distribution={prior}").generator.latents(5000)
    assert latents.std().item() == pytest.approx(std, rel=0.02)
    assert latents.mean().item() == pytest.approx(0, abs=0.01)
    assert prior == "normal" or latents.abs().max() <= 1


def test_unknown_expert_is_rejected():
    generator, _ = networks("model.k=4")
    with pytest.raises(ConfigError, match="numbered 0 to 3"):
        generator(generator.latents(1), expert=4)
