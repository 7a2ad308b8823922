"""The presets of R3GAN and SNGAN: published settings, and mixtures with as many parameters as one generator."""

from functools import cache

import pytest
import torch

from mixgan_cli.config.components import build
from mixgan_cli.models.networks import build_networks, parameter_counts
from tests.conftest import composed

SIZES = {"r3gan_cifar10": 32, "r3gan_ffhq64": 64, "r3gan_stacked_mnist": 32, **dict.fromkeys(
    ("sngan_cifar10", "sngan_cifar10_mimicry", "sngan_cifar10_collections"), 32)}  # fmt: skip
COUNTS = {"r3gan_cifar10": (20_732_160, 20_683_776), "r3gan_ffhq64": (22_429_824, 22_381_440),
          "r3gan_stacked_mnist": (20_732_160, 20_683_776),
          "sngan_cifar10": (4_276_739, 1_053_824), "sngan_cifar10_mimicry": (4_276_739, 1_053_825),
          "sngan_cifar10_collections": (4_276_739, 1_053_825)}  # fmt: skip


@cache
def preset(name):
    return composed(f"experiment={name}", *(["data.root=anywhere"] if "ffhq" in name else []))


def counts(name, size):
    with torch.device("meta"):
        return parameter_counts(build_networks(preset(name).model, (3, size, size)))


@pytest.mark.parametrize("name", COUNTS)
def test_single_generator_has_the_published_size(name):
    found = counts(name, SIZES[name])
    assert (found["generator"], found["discriminator"]) == COUNTS[name]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("model", ["hmog", "mggan"])
def test_mixture_has_the_parameters_and_settings_of_the_single_one(name, model):
    single, mixture = counts(name, SIZES[name]), counts(f"{name}_{model}", SIZES[name])
    for part in ("generator", "discriminator"):
        assert mixture[part] == pytest.approx(single[part], rel=0.01), part
    one, other = preset(name), preset(f"{name}_{model}")
    assert other.model.k == 4 and other.model.name == model and other.model.backbone == one.model.backbone
    assert other.model.experts == one.model.experts and other.model.latent.distribution == "normal"
    for group in ("training", "schedule", "evaluation", "data"):
        assert getattr(other, group) == getattr(one, group), group
    assert other.objective.model_copy(update={"terms": one.objective.terms}) == one.objective


def at(name, nimg):
    """Learning rate, β2, gamma and half-life of R3GAN after so many images."""
    run = preset(name)
    adam, penalty = run.objective.optimizer.discriminator, run.objective.penalty
    nodes = (adam["schedule"], adam["beta2_schedule"], penalty["schedule"], run.training.ema_schedule)
    lr, complement, gamma, half_life = (
        build(node, nimg=run.training.nimg).factor(nimg, 0) if node else 1.0 for node in nodes
    )
    assert run.objective.optimizer.generator == adam
    values = (1 - (1 - adam["betas"][1]) * complement, penalty["weight"] * gamma)
    return adam["lr"] * lr, *values, run.training.ema_half_life_nimg * half_life


@pytest.mark.parametrize(
    ("name", "nimg", "values"),
    [
        ("r3gan_cifar10", 0, (2e-4, 0.9, 0.05, 0)),
        ("r3gan_cifar10", 5_000_000, (1.7803e-4, 0.913180, 0.043410, 732_233)),
        ("r3gan_cifar10", 20_000_000, (5e-5, 0.99, 0.005, 5_000_000)),
        ("r3gan_ffhq64", 0, (2e-4, 0.9, 2.0, 0)),
        ("r3gan_ffhq64", 99_000_000, (5e-5, 0.99, 0.2, 500_000)),
        ("r3gan_stacked_mnist", 0, (2e-4, 0.9, 1.0, 0)),
        ("r3gan_stacked_mnist", 1_000_000, (2e-4, 0.945, 0.55, 250_000)),
        ("r3gan_stacked_mnist", 2_000_000, (2e-4, 0.99, 0.1, 500_000)),
    ],
)
def test_r3gan_follows_the_published_schedules(name, nimg, values):
    assert at(name, nimg) == pytest.approx(values, rel=3e-5)
    adam = preset(name).objective.optimizer.generator
    assert (adam["betas"][0], adam["eps"]) == (0, 1e-8)


@pytest.mark.parametrize(
    ("name", "nimg", "p"),
    [
        ("r3gan_cifar10", 0, 0),
        ("r3gan_cifar10", 5_000_000, 0.080546),
        ("r3gan_cifar10", 15_000_000, 0.469454),
        ("r3gan_cifar10", 90_000_000, 0.55),
        ("r3gan_ffhq64", 10_000_000, 0.15),
        ("r3gan_ffhq64", 20_000_000, 0.3),
    ],
)
def test_r3gan_augments_with_the_published_probability(name, nimg, p):
    augment = preset(name).objective.augment
    factor = build(augment["schedule"], nimg=preset(name).training.nimg).factor(nimg, 0)
    assert augment["p"] * factor == pytest.approx(p, rel=3e-5)


def test_r3gan_on_stacked_mnist_has_the_papers_settings():
    run = preset("r3gan_stacked_mnist")
    assert (run.training.nimg, run.training.batch, run.training.flips) == (10_000_000, 512, False)
    assert run.objective.augment is None and run.evaluation.name == "stacked" and run.data["name"] == "stacked_mnist"


@pytest.mark.parametrize(
    ("name", "batch", "fakes", "d_steps", "g_steps"),
    [
        ("sngan_cifar10", 64, 128, 5, 50_000),
        ("sngan_cifar10_mimicry", 64, 64, 5, 100_000),
        ("sngan_cifar10_collections", 64, 128, 5, 100_000),
        ("sngan_cifar10_cnn", 128, 256, 1, 100_000),
    ],
)
def test_sngan_has_the_published_numbers(name, batch, fakes, d_steps, g_steps):
    run = preset(name)
    training, objective = run.training, run.objective
    assert (training.batch, training.batch * objective.generator_fakes) == (batch, fakes)
    assert objective.d_steps == d_steps and training.nimg == g_steps * d_steps * batch
    for adam in (objective.optimizer.generator, objective.optimizer.discriminator):
        assert (adam["lr"], adam["betas"]) == (2e-4, (0.0, 0.9))
        assert adam["schedule"]["_target_"].endswith("Linear") and adam["schedule"]["final"] == 0
    assert training.dequantize == ("mimicry" not in name) and training.ema_half_life_nimg == 0


@pytest.mark.parametrize(
    ("name", "spread"),
    [("sngan_cifar10", (2 / (128 + 4096)) ** 0.5), ("sngan_cifar10_mggan", (2 / (31 + 4096)) ** 0.5),
     ("sngan_cifar10_cnn", 0.02)],
)  # fmt: skip
def test_first_layers_of_sngan_begin_as_in_the_sources(name, spread):
    torch.manual_seed(0)
    experts = build_networks(preset(name).model, (3, 32, 32)).generator.experts
    assert experts.weight_KZH.std().item() == pytest.approx(spread, rel=0.01)
