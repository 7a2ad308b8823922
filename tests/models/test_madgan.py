"""MAD-GAN compared with its specification: three kinds of sharing, K + 1 classes, K batches of fakes."""

import copy
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mixgan_cli.models.layers import BatchNorm2d
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.training.setup import build_phases
from tests.conftest import composed, take_step
from tests.training.test_phases import COMPUTE, Fixed

once_composed = cache(composed)  # composing is what takes time

BATCH = 4


def networks(*overrides, shape=(3, 32, 32)):
    return build_networks(once_composed("model=madgan", *overrides).model, shape)


def sharing(experts, *overrides, pixels=32):
    """A small MAD-GAN with one of its three kinds of sharing. The networks of madgan_sim differ in the head only."""
    return build_networks(
        once_composed(
            "model=madgan_sim",
            "objective=madgan",
            "model/head=multiclass",
            f"model/experts={experts}",
            "model.k=3",
            "model.backbone.channels=2",
            "model.latent.size=5",
            *overrides,
        ).model,
        (3, pixels, pixels),
    )


def game(*overrides, k=3):
    run = once_composed("model=madgan", f"model.k={k}", "model.backbone.channels=4", "model.latent.size=5", *overrides)
    players = build_networks(run.model, (1, 8, 8))
    real = torch.rand(BATCH, 1, 8, 8) * 2 - 1
    return players, real, build_phases(run.objective, players, Fixed(real), BATCH, COMPUTE)


def judged(discriminator, samples):
    """Return the discriminator's K + 1 logits, real first, without updating its running statistics."""
    discriminator = copy.deepcopy(discriminator)
    return discriminator.head.classes(discriminator.body(samples))


def watch(discriminator):
    """Return a list that collects the discriminator's inputs from now on."""
    seen = []
    discriminator.body.register_forward_hook(lambda body, inputs, output: seen.append(inputs[0].detach().clone()))
    return seen


# Networks


@pytest.mark.parametrize(("k", "pixels", "front_end"), [(4, 32, 1_687_552), (4, 64, 3_375_104), (32, 64, 27_000_832)])
def test_parameter_counts_match_the_thesis(k, pixels, front_end):
    with torch.device("meta"):
        counts = parameter_counts(networks(f"model.k={k}", shape=(3, pixels, pixels)))
    hidden = {32: 4096, 64: 8192}[pixels]
    assert (counts["gate"], counts["experts"]) == (0, front_end)
    assert front_end == k * hidden * 101 + 2 * k * hidden


@pytest.mark.parametrize("experts", ["dense", "heads", "networks"])
def test_each_kind_of_sharing_is_one_override(experts):
    with torch.device("meta"):
        networks(f"model/experts={experts}")


@pytest.mark.parametrize("pixels", [16, 64])
@pytest.mark.parametrize("experts", ["dense", "heads", "networks"])
def test_number_of_shared_and_separate_stages(experts, pixels):
    """Count separate and shared deconvolutions: a network has one per doubling of the resolution, and a first one."""
    generator, discriminator = sharing(experts, pixels=pixels)
    samples, weights_BK = generator(generator.latents(6))
    assert samples.shape == (6, 3, pixels, pixels) and weights_BK.shape == (6, 3)
    assert discriminator(samples).expert_logits_NL.shape == (6, 3)

    def ups(network):
        return sum(isinstance(layer, nn.ConvTranspose2d) for layer in network.modules())

    stages = {16: 3, 64: 5}[pixels]
    own, shared = ups(generator.experts), ups(generator.stem) + ups(generator.trunk)
    assert (own, shared) == {
        "dense": (0, stages - 1),  # the first layer is a dense one, each expert's own
        "heads": (3 * 2, stages - 2),  # "heads": the last two
        "networks": (3 * stages, 0),
    }[experts]


def test_heads_share_the_stages_up_to_16_pixels():
    generator, _ = sharing("heads", pixels=64)
    assert generator.stem(generator.latents(6)).shape == (6, 4, 16, 16)


@pytest.mark.parametrize("experts", ["heads", "networks"])
def test_samples_train_their_expert_and_the_shared_layers(experts):
    generator, _ = sharing(experts)
    generator(generator.latents(6)).samples[:2].square().sum().backward()  # the first third: expert 0's

    def moved(network):
        return {p.grad is not None and p.grad.any().item() for p in network.parameters() if p.dim() > 1}

    assert moved(generator.stem) <= {True} and moved(generator.trunk) <= {True}
    for k in range(3):
        both = moved(generator.experts.first[k]) | moved(generator.experts.rest[k])
        assert both == {k == 0}
    assert bool(moved(generator.stem)) == (experts == "heads")


def test_dense_experts_get_gradients_of_their_own_samples():
    generator, _ = sharing("dense")
    generator.trunk.eval()  # its batch norm pools the experts, and their gradients with them
    generator(generator.latents(6)).samples[:2].square().sum().backward()
    assert [gradient.any().item() for gradient in generator.experts.weight_KZH.grad] == [True, False, False]
    assert all(p.grad.any() for p in generator.trunk.parameters() if p.dim() > 1)


@pytest.mark.parametrize("experts", ["heads", "networks"])
def test_experts_start_with_different_weights(experts):
    generator, _ = sharing(experts)
    blocks = generator(generator.latents(6)).samples.unflatten(0, (3, 2))
    assert not torch.allclose(blocks[0], blocks[1]) and not torch.allclose(blocks[1], blocks[2])


def test_networks_match_radford_et_al():
    """At 64 pixels; batch norm in all but the outer layers; weights ~ N(0, 0.02²), its scales ~ N(1, 0.02²)."""
    generator, discriminator = build_networks(
        once_composed("model=madgan_sim", "objective=madgan", "model/head=multiclass", "model.k=1").model, (3, 64, 64)
    )
    layers = [layer for layer in generator.experts.modules() if not list(layer.children())]
    ups = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in ups] == [512, 256, 128, 64, 3]
    assert [(layer.kernel_size, layer.stride, layer.padding) for layer in ups] == [
        ((4, 4), (1, 1), (0, 0)),
        *[((4, 4), (2, 2), (1, 1))] * 4,
    ]
    block = [nn.ConvTranspose2d, BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in layers if not isinstance(layer, nn.Unflatten)] == [
        *block * 4,
        nn.ConvTranspose2d,
        nn.Tanh,
    ]
    block = [nn.Conv2d, BatchNorm2d, nn.LeakyReLU]
    assert [type(layer) for layer in discriminator.body] == [nn.Conv2d, nn.LeakyReLU, *block * 3, nn.Flatten]
    for layer in [*ups, *(layer for layer in discriminator.body if isinstance(layer, nn.Conv2d))]:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05) and not layer.bias.any()
    scales = torch.cat([layer.weight for layer in layers if isinstance(layer, nn.BatchNorm2d)])
    assert scales.mean().item() == pytest.approx(1, abs=0.003) and scales.std().item() == pytest.approx(0.02, rel=0.1)
    assert discriminator.head.classes.weight.shape == (2, 8192)


# Training steps


def test_every_expert_generates_a_batch():
    (_, discriminator), _, phases = game()
    seen = watch(discriminator)
    for phase in phases:
        take_step(phase)
    assert [len(samples) for samples in seen] == [BATCH, *[BATCH] * 3, *[BATCH] * 3]


def test_fakes_pass_together_as_in_the_hmog_authors_code():
    (_, discriminator), _, phases = game("objective.fake_passes=together")
    seen = watch(discriminator)
    for phase in phases:
        take_step(phase)
    assert [len(samples) for samples in seen] == [BATCH, 3 * BATCH, 3 * BATCH]


@pytest.mark.parametrize("phase_number", [0, 1])
@pytest.mark.parametrize("together", [False, True])
def test_batch_norm_of_the_discriminator_sees_one_expert(together, phase_number):
    """Each expert's fakes alone, in both steps. Together, they are normalised with those of the other experts."""
    overrides = ["model.backbone.first_norm=true", *(["objective.fake_passes=together"] if together else [])]
    (_, discriminator), _, phases = game(*overrides)
    means = []
    norm = next(layer for layer in discriminator.body if isinstance(layer, BatchNorm2d))
    norm.register_forward_hook(lambda layer, inputs, output: means.append(output.mean(dim=(0, 2, 3)).detach()))
    take_step(list(phases)[phase_number])
    of_fakes = means[1:] if phase_number == 0 else means
    assert len(of_fakes) == (1 if together else 3)
    for mean in of_fakes:  # what batch norm normalises has the mean of its offset, 0
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("gate", "parts"), [("uniform_separate", 3), ("uniform", 1)])
def test_batch_norm_of_shared_layers_sees_one_expert(gate, parts):
    """In the author's code each expert runs through the shared layers alone. When sampling, nothing depends on it."""
    generator, _ = networks(f"model/gate={gate}", "model.k=3", "model.backbone.channels=2", shape=(1, 16, 16))
    seen = []
    norm = next(layer for layer in generator.trunk.modules() if isinstance(layer, BatchNorm2d))
    hook = norm.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    latent_BZ = generator.latents(12)
    samples = generator(latent_BZ).samples
    assert seen == [12 // parts] * parts and samples.shape == (12, 1, 16, 16)
    generator.eval()
    generator(latent_BZ)
    assert seen[parts:] == [12]
    hook.remove()


def test_separate_parts_equal_experts_run_alone():
    """The trunk on one expert's hidden vectors gives that expert's samples."""
    generator, _ = networks("model.k=3", "model.backbone.channels=2", shape=(1, 16, 16))
    latent_BZ = generator.latents(12)
    hidden_KBH = generator.experts(latent_BZ.unflatten(0, (3, 4)))
    expected = torch.cat([generator.trunk(hidden_BH) for hidden_BH in hidden_KBH])
    torch.testing.assert_close(generator(latent_BZ).samples, expected)


@pytest.mark.parametrize(("weight", "times"), [("k", 3), ("one", 1)])
def test_discriminator_loss_is_a_cross_entropy_over_k_plus_one(weight, times):
    """Weight 1 for the real batch and each of K fake batches; with `one`, 1 : 1 as in the HMoG author's code."""
    (_, discriminator), real, (phase, _) = game(f"objective.fake_weight={weight}")
    before, seen = copy.deepcopy(discriminator), watch(discriminator)
    told = take_step(phase)["loss/discriminator"].item()
    of_real = cross_entropy(judged(before, real), torch.zeros(BATCH, dtype=torch.long))
    of_fakes = cross_entropy(
        judged(before, torch.cat(seen[1:])), torch.tensor([k + 1 for k in range(3) for _ in range(BATCH)])
    )
    assert told == pytest.approx((of_real + times * of_fakes).item(), rel=1e-5)


def test_generator_loss_is_the_real_class_on_reused_fakes():
    (_, discriminator), _, phases = game()
    seen = watch(discriminator)
    latent_BZ = phases.discriminator.step(phases.discriminator.inputs(0, 0)).latent_BZ
    updated = copy.deepcopy(discriminator)
    told = take_step(phases.generator, latent_BZ=latent_BZ)["loss/generator"].item()
    fakes, again = torch.cat(seen[1:4]), torch.cat(seen[4:])
    assert phases.reuse_latents and torch.equal(fakes, again)
    expected = cross_entropy(judged(updated, fakes), torch.zeros(3 * BATCH, dtype=torch.long))
    assert told == pytest.approx(expected.item(), rel=1e-5)


def test_one_expert_gives_a_gan_with_two_logits():
    (_, discriminator), real, (phase, _) = game(k=1)
    assert discriminator.head.classes.out_features == 2
    before, seen = copy.deepcopy(discriminator), watch(discriminator)
    told = take_step(phase)["loss/discriminator"].item()
    on_real, on_fake = judged(before, real).softmax(dim=1)[:, 0], judged(before, seen[1]).softmax(dim=1)[:, 0]
    assert told == pytest.approx(-(on_real.log().mean() + (1 - on_fake).log().mean()).item(), rel=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_same_latents_repeats_the_latents_per_expert(same):
    generator, _ = networks(f"model.gate.same_latents={same}", "model.k=3", "model.backbone.channels=2")
    blocks = generator.latents(6).unflatten(0, (3, 2))
    assert torch.equal(blocks[0], blocks[1]) == torch.equal(blocks[1], blocks[2]) == same
