"""Iterations of a discriminator that sees packs: losses recomputed by hand, what a pack mixes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import unpack
from mixgan_cli.training.checks import check_networks, check_ranks
from tests.conftest import composed, take_step
from tests.training.test_family import configuration, own, trains_resumes_and_samples
from tests.training.test_phases_augmented import PALED, Paled, seen_by
from tests.training.test_phases_paired import BATCH, game, point_critic, softplus, values

POINTS = (
    "model=gan", "data=ring", "model/experts=linear", "model.latent.size=3", "model.backbone.generator_widths=[]",
    "model.backbone.discriminator_widths=[5]", "model.pack=2",
)  # fmt: skip
"""One linear generator of points, and a critic with one hidden layer that sees pairs of them."""
UNIFORM = ("model=mggan", "model/head=score", "model.beta=0", "model.k=4", "objective=non_saturating")


def latents_and_fakes(generator, batch=BATCH):
    """The latents that the next step draws, and the points that one linear generator makes of them, by hand."""
    weight, bias = (values.detach().numpy()[0] for values in generator.experts.parameters())
    latents = torch.randn(batch, 3).numpy()
    return latents, latents @ weight + bias


def pairs(points):
    """Packs of two points each, by hand."""
    return np.stack([np.concatenate([points[i], points[i + 1]]) for i in range(0, len(points), 2)])


def test_packed_wgan_gp_loss_by_hand(double):
    """Scores of packs, and one norm of the gradient over all numbers of a pack: NumPy in float64 alone."""
    networks, batches, phases = game(*POINTS, "objective=wgan_gp", shape=(2,))
    scores, _ = point_critic(values(networks.discriminator))
    torch.manual_seed(9)
    real, (_, fake) = pairs(batches.get_batch(0, BATCH).numpy()), latents_and_fakes(networks.generator)
    alpha = torch.rand(BATCH // 2, 1).numpy()
    fake = pairs(fake)
    between = real + alpha * (fake - real)
    weight, bias, last, _ = values(networks.discriminator)
    slopes = ((between @ weight.T + bias > 0) * last[0]) @ weight  # [3, 4]: a gradient for each pack
    penalty = 10 * np.mean((np.sqrt((slopes**2).sum(axis=1)) - 1) ** 2)

    torch.manual_seed(9)
    told = take_step(phases.discriminator)
    assert told["loss/penalty"].item() == pytest.approx(penalty, rel=1e-12)
    expected = scores(fake).mean() - scores(real).mean() + penalty
    assert told["loss/discriminator"].item() == pytest.approx(expected, rel=1e-12)

    scores, _ = point_critic(values(networks.discriminator))
    torch.manual_seed(10)
    _, fake = latents_and_fakes(networks.generator)
    torch.manual_seed(10)
    told = take_step(phases.generator)
    assert told["loss/generator"].item() == pytest.approx(-scores(pairs(fake)).mean(), rel=1e-12)


def test_packed_r3gan_pairs_packs_with_packs_by_hand(double):
    networks, batches, phases = game(*POINTS, "objective.penalty.weight=0.7", shape=(2,))
    scores, squares = point_critic(values(networks.discriminator))
    real = [pairs(batches.get_batch(nimg, BATCH).numpy()) for nimg in (0, BATCH)]
    torch.manual_seed(9)
    _, fake = latents_and_fakes(networks.generator)
    fake = pairs(fake)
    penalty = 0.35 * (squares(real[0]).mean() + squares(fake).mean())

    torch.manual_seed(9)
    told = take_step(phases.discriminator)
    assert told["loss/penalty"].item() == pytest.approx(penalty, rel=1e-12)
    expected = softplus(scores(fake) - scores(real[0])).mean() + penalty
    assert told["loss/discriminator"].item() == pytest.approx(expected, rel=1e-12)

    scores, _ = point_critic(values(networks.discriminator))
    torch.manual_seed(10)
    _, fake = latents_and_fakes(networks.generator)
    torch.manual_seed(10)
    told = take_step(phases.generator, BATCH)
    assert told["loss/generator"].item() == pytest.approx(softplus(scores(real[1]) - scores(pairs(fake))).mean())


def test_packs_of_a_uniform_gate_mix_its_experts():
    """8 samples of 4 experts, 2 of each: two of one pack share their expert with probability 1/7 if they are shuffled.

    Unshuffled, they always would: the samples are ordered by expert.
    """
    _, _, phases = game(*UNIFORM, "model.pack=2", batch=8)
    expert_of_sample = torch.arange(4.0).repeat_interleave(2).view(8, 1, 1, 1).expand(8, 1, 8, 8)
    torch.manual_seed(0)
    draws = torch.cat([phases.discriminator.context.packed(expert_of_sample, generated=True) for _ in range(3000)])
    both = draws[:, :, 0, 0]
    same = (both[:, 0] == both[:, 1]).double().mean().item()
    assert same == pytest.approx(1 / 7, abs=4 * (6 / 49 / len(both)) ** 0.5)
    assert torch.equal(both.flatten().int().bincount(), torch.full((4,), 6000))  # each sample is in one pack


def test_packs_of_reals_and_of_a_soft_gate_keep_the_order():
    """They are independent already; so any number of ranks has the packs of one process."""
    _, _, phases = game("model=mog", "model.pack=2")
    samples = torch.randn(6, 1, 8, 8)
    for generated in (False, True):
        packs = phases.discriminator.context.packed(samples, generated)
        assert torch.equal(unpack(packs, 2), samples)


def test_samples_of_a_pack_are_augmented_one_by_one():
    Paled.given.clear()
    networks, batches, phases = game("model=mog", "model.pack=2", PALED, "objective=non_saturating")
    seen = seen_by(networks.discriminator)
    take_step(phases.discriminator)
    assert [tuple(given.shape) for given in Paled.given] == [(BATCH, 1, 8, 8)] * 2
    assert torch.equal(unpack(seen[0], 2), 0.5 * batches.get_batch(0, BATCH) + 0.25)


@pytest.mark.parametrize("model", ["hmog", "mggan"])
def test_packed_run_resumes_bitwise_and_samples(model, tmp_path: Path):
    config = configuration({**own(model), "model/head": "score"})
    config["model"]["pack"] = 2
    config["objective"] |= {"fake_passes": "together"}
    trains_resumes_and_samples(config, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=mggan", "model.pack=2"), "ClassifierHead says which expert made a sample, and a pack mixes samples"),
        (("model=madgan", "model.pack=2", "objective=mggan"), "MulticlassHead says which expert made a sample"),
        (("model=hmog", "model.pack=3"), "training.batch=128: .*packs of model.pack=3 samples. Take a multiple of 3"),
        (("model=madgan", "model/head=score", "model.pack=2"), "fake_passes=per_expert: .*Take together"),
        (("model=hmog", "model.pack=2", "training.shuffle=false"), "training.shuffle=false: .*must be independent"),
        (("model=madgan_sim", "model.pack=2"), "terms.competition compares the scores of single samples. Take"),
        (("model=hmog", "model.pack=0"), "model.pack=0: .*greater than 0"),
    ],
)  # fmt: skip
def test_run_that_allows_no_packs_is_refused_with_the_reason(overrides, reason):
    with pytest.raises(ConfigError, match=reason):
        composed("data=cifar10", *overrides, "training.batch=128")


def test_fakes_that_make_no_whole_packs_are_refused():
    overrides = (*UNIFORM, "model.pack=3", "training.batch=9")
    run, (networks, _, _) = composed(*overrides), game(*overrides, "training.fakes=12", batch=9)
    check_networks(networks, run.objective, 9, 12)
    with pytest.raises(ConfigError, match=r"model.pack=3: the 8 generated samples .* multiple of 12 as training.fakes"):
        check_networks(networks, run.objective, 9, 8)


def test_discriminator_with_batch_norm_needs_two_packs():
    overrides = ("model=mog", "objective=non_saturating", "model.backbone.discriminator_norm=batch", "model.pack=3",
                 "training.batch=3")  # fmt: skip
    run, (networks, _, _) = composed(*overrides), game(*overrides, batch=3)
    with pytest.raises(ConfigError, match=r"training.batch=3: .*needs two packs of 3 images. Take 6"):
        check_networks(networks, run.objective, 3, None)


def test_ranks_that_would_cut_packs_are_refused():
    run = composed("model=mog", "model.pack=2", "training.batch=6")
    networks, _, _ = game("model=mog", "model.pack=2")
    check_ranks(networks, run.training, run.objective, 1)
    check_ranks(networks, run.training, run.objective, 3)
    with pytest.raises(ConfigError, match=r"training.batch=6: 2 processes .* packs of 2 equally. Take a multiple of 4"):
        check_ranks(networks, run.training, run.objective, 2)
