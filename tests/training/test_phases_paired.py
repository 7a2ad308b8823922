"""Iterations of losses on pairs: a whole one recomputed by hand, the real samples of both steps, pairs of K experts."""

import copy

import numpy as np
import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.training.checks import check_networks
from mixgan_cli.training.setup import build_phases
from tests.conftest import TINY, composed, take_step
from tests.training.test_phases import COMPUTE
from tests.training.test_phases_augmented import PALED, Paled

BATCH = 6
SCHEDULES = (
    "objective/optimizer=r3gan_burn_in",
    *(f"objective.optimizer.{name}.{value}.end=40" for name in ("generator", "discriminator")
      for value in ("schedule", "beta2_schedule")),
    "+schedule@objective.penalty.schedule=burn_in",
    "objective.penalty.schedule={initial: 1.0, final: 0.1, end: 40}",
    "objective/augment=diffaugment",
    "+schedule@objective.augment.schedule=burn_in",
    "+schedule@training.ema_schedule=burn_in",
    "training.ema_half_life_nimg=30",
    "training.ema_ramp_up=null",
)  # fmt: skip
"""Of learning rates, β2, the penalty's weight, the share of augmented images and the moving average."""
MIXED = ("model=mog", "model.k=3", "model.backbone.discriminator_norm=none")


class Counted:
    """Real images that depend on their number, as in the loop."""

    def __init__(self, shape):
        self.shape, self.asked = shape, []

    def get_batch(self, nimg, batch):
        self.asked.append((nimg, batch))
        generator = torch.Generator().manual_seed(nimg)
        return torch.rand(batch, *self.shape, generator=generator, dtype=torch.get_default_dtype()) * 2 - 1


def game(*overrides, shape=(1, 8, 8), batch=BATCH):
    images = ("model.backbone.channels=2", "model.latent.size=3") if len(shape) == 3 else ()
    run = composed("objective=r3gan", *images, *overrides)
    networks = build_networks(run.model, shape)
    batches = Counted(shape)
    return networks, batches, build_phases(run.objective, networks, batches, batch, COMPUTE, run.training.fakes)


def softplus(values):
    return np.logaddexp(0, values)


def adam(parameters, gradients, lr=2e-4, beta2=0.99):
    """The first step of Adam with β1 = 0, for which the bias correction leaves the gradient itself."""
    return [
        p - lr * g / (np.sqrt((1 - beta2) * g**2 / (1 - beta2)) + 1e-8)
        for p, g in zip(parameters, gradients, strict=True)
    ]


def values(network):
    return [parameter.detach().numpy().copy() for parameter in network.parameters()]


def point_critic(parameters):
    """Scores of points [n, 2] by a network with one hidden layer, and the squared norms of their gradients."""
    weight, bias, last, offset = parameters

    def scores(points):
        return np.maximum(points @ weight.T + bias, 0) @ last[0] + offset[0]

    def squares(points):
        slopes = (points @ weight.T + bias > 0) * last[0]
        return ((slopes @ weight) ** 2).sum(axis=1)

    return scores, squares


def differences(loss, parameters, step=1e-6):
    """The gradient of a loss by central differences, a number at a time."""
    gradients = []
    for position, values in enumerate(parameters):
        gradient = np.zeros_like(values)
        for index in np.ndindex(*values.shape):
            ends = []
            for sign in (1, -1):
                changed = [each.copy() for each in parameters]
                changed[position][index] += sign * step
                ends.append(loss(changed))
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


def test_whole_iteration_of_r3gan_by_hand(double):
    """Points, one linear generator, a critic with one hidden layer: losses and both Adam steps with NumPy alone."""
    networks, batches, phases = game(
        "model=gan", "data=ring", "model/experts=linear", "model.latent.size=3", "model.backbone.generator_widths=[]",
        "model.backbone.discriminator_widths=[5]", "objective.penalty.weight=0.7", shape=(2,),
    )  # fmt: skip
    before = copy.deepcopy(networks)
    real = [batches.get_batch(nimg, BATCH).numpy() for nimg in (0, BATCH)]
    torch.manual_seed(9)
    latents = [torch.randn(BATCH, 3).numpy() for _ in range(2)]

    torch.manual_seed(9)
    state = take_step(phases.discriminator)
    weight, bias = (values.detach().numpy()[0] for values in before.generator.experts.parameters())
    fake = latents[0] @ weight + bias

    def of_discriminator(parameters):
        scores, squares = point_critic(parameters)
        penalty = 0.7 / 2 * (squares(real[0]).mean() + squares(fake).mean())
        return softplus(scores(fake) - scores(real[0])).mean() + penalty

    start = values(before.discriminator)
    scores, squares = point_critic(start)
    assert state["loss/discriminator"].item() == pytest.approx(of_discriminator(start), rel=1e-12)
    assert state["loss/penalty"].item() == pytest.approx(
        0.35 * (squares(real[0]).mean() + squares(fake).mean()), rel=1e-12
    )
    assert state["score/real"].item() == pytest.approx(scores(real[0]).mean(), rel=1e-12)
    gradients = differences(of_discriminator, start)
    for got, expected, gradient in zip(values(networks.discriminator), adam(start, gradients), gradients, strict=True):
        certain = abs(gradient) > 1e-5  # Adam's first step is ±lr: the sign of a gradient that is nearly 0 is not known
        np.testing.assert_allclose(got[certain], expected[certain], rtol=0, atol=1e-9)

    told = take_step(phases.generator, BATCH)
    scores, _ = point_critic(values(networks.discriminator))

    def of_generator(parameters):
        return softplus(scores(real[1]) - scores(latents[1] @ parameters[0][0] + parameters[1][0])).mean()

    start = values(before.generator)
    assert told["loss/generator"].item() == pytest.approx(of_generator(start), rel=1e-12)
    expected = adam(start, differences(of_generator, start))
    for got, wanted in zip(values(networks.generator), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d_steps", [1, 3])
def test_steps_take_the_real_batches_in_turn(d_steps):
    """The generator's are its own, and only those of the discriminator count as shown."""
    _, batches, phases = game(*MIXED, f"objective.d_steps={d_steps}")
    nimg = 0
    for iteration in range(3):
        for phase in phases:
            for _ in range(phase.steps):
                phase.inputs(nimg, iteration)
                nimg += phase.n_real
    assert phases.n_real == d_steps * BATCH and nimg == 3 * d_steps * BATCH
    assert batches.asked == [(BATCH * i, BATCH) for i in range(3 * (d_steps + 1))]


def test_penalty_is_of_images_before_the_augmentation(double):
    """Through T(x) = x/2 + 1/4; and T is drawn once for the loss and the penalty."""
    networks, batches, phases = game(*MIXED, PALED)
    real = batches.get_batch(0, BATCH)
    Paled.given.clear()
    torch.manual_seed(3)
    fake = networks.generator(networks.generator.latents(BATCH)).samples.detach()

    def score(samples):
        return networks.discriminator(0.5 * samples + 0.25).scores_N

    squares = [
        torch.func.vmap(torch.func.jacrev(lambda x: score(x[None])[0]))(samples).flatten(1).square().sum(1).mean()
        for samples in (real, fake)
    ]
    expected = torch.nn.functional.softplus(score(fake) - score(real)).mean() + sum(squares) / 2
    torch.manual_seed(3)
    told = take_step(phases.discriminator)
    assert len(Paled.given) == 2
    assert told["loss/penalty"].item() == pytest.approx((sum(squares) / 2).item(), rel=1e-10)
    assert told["loss/discriminator"].item() == pytest.approx(expected.item(), rel=1e-10)


def test_generators_reals_are_augmented_apart():
    networks, _, phases = game(*MIXED, PALED)
    Paled.given.clear()
    seen = []
    networks.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    inputs = phases.generator.inputs(BATCH, 0)
    phases.generator.step(inputs)
    assert len(seen) == 2 and torch.equal(seen[1], 0.5 * inputs["real"] + 0.25)


@pytest.mark.parametrize("objective", ["hinge", "non_saturating"])
def test_zero_centred_penalty_with_other_losses(double, objective):
    networks, batches, phases = game(
        *MIXED,
        f"objective={objective}",
        "objective.penalty._target_=mixgan_cli.objectives.ZeroCentred",
        "+objective.penalty.weight=2.0",
        "objective.d_steps=1",
    )
    discriminator, real = copy.deepcopy(networks.discriminator), batches.get_batch(0, BATCH)
    torch.manual_seed(3)
    told = take_step(phases.discriminator)
    torch.manual_seed(3)
    fake = networks.generator(networks.generator.latents(BATCH)).samples.detach()
    adversarial, penalty = phases.discriminator.context.adversarial, 0
    for samples in (real, fake):
        gradients = torch.func.vmap(torch.func.jacrev(lambda x: discriminator(x[None]).scores_N[0]))(samples)
        penalty = penalty + gradients.flatten(1).square().sum(1).mean()
    loss = adversarial.real(discriminator(real).scores_N) + adversarial.fake(discriminator(fake).scores_N)
    assert told["loss/penalty"].item() == pytest.approx(penalty.item(), rel=1e-10)
    assert told["loss/discriminator"].item() == pytest.approx((loss + penalty).item(), rel=1e-10)


@pytest.mark.parametrize(("fakes", "pairs"), [("per_expert", 18), ("shared", 6)])
def test_pairs_of_k_experts(fakes, pairs):
    """MAD-GAN's K n fakes meet n reals; otherwise the experts share the reals."""
    _, _, phases = game(
        "model=mggan", "model.k=3", "model/experts=linear", "model/head=classifier", f"objective.fakes={fakes}",
        "model.backbone.discriminator_norm=none", shape=(1, 16, 16),
    )  # fmt: skip
    context, seen = phases.discriminator.context, []
    original = context.adversarial.discriminator
    context.adversarial.discriminator = lambda real, fake: seen.append((real, fake)) or original(real, fake)
    told = take_step(phases.discriminator)
    real, fake = seen[0]
    assert len(real) == len(fake) == pairs and len(set(real.tolist())) == BATCH
    assert told["loss/classifier"].isfinite() and told["jsd_experts"].isfinite()


def test_run_resumed_within_all_schedules_is_bitwise_equal(mixgan, tmp_path):
    """Interrupted at the second of three checkpoints, the run ends bit for bit in the same weights."""
    short = ("training.nimg=48", "training.checkpoint_nimg=16", "evaluation=none")
    words = (*TINY, *MIXED, "objective=r3gan", *short, *SCHEDULES)
    whole = mixgan("train", *words, "paths.run=whole", "training.keep=3")
    assert whole.code == 0, whole.err
    mixgan("train", *words, "paths.run=parts", "training.keep=3")
    for name in ("DONE", "results.json"):
        tmp_path.joinpath("parts", name).unlink(missing_ok=True)
    checkpoints = tmp_path / "parts" / "checkpoints"
    checkpoints.joinpath("last.pt").unlink()
    checkpoints.joinpath("000000032.pt").rename(checkpoints / "last.pt")
    resumed = mixgan("train", *words, "paths.run=parts", "training.keep=3")
    assert resumed.code == 0 and "resumed" in resumed.err, resumed.err
    first, second = (torch.load(tmp_path / run / "checkpoints" / "last.pt") for run in ("whole", "parts"))
    for network in ("generator", "discriminator", "ema"):
        assert all(torch.equal(value, second[network][name]) for name, value in first[network].items()), network


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=mog", "model.backbone.discriminator_norm=batch"), "takes the gradient of each sample's own score"),
        (("model=mggan",), "discriminator_norm=batch: ZeroCentred takes the gradient of each sample's own score"),
        (("model=mog", "model/head=multiclass"), "RelativisticPairing takes the score for something else"),
        (("model=mog", "objective.fake_weight=k"), "RelativisticPairing weighs pairs"),
        (("model=mog", "training.shuffle=false"), "in a fixed order the discriminator might never see some images"),
    ],
)
def test_what_cannot_be_paired_is_refused(overrides, reason):
    with pytest.raises(ConfigError) as refusal:
        composed("objective=r3gan", *overrides)
    assert reason in str(refusal.value)


def test_batch_norm_of_any_backbone_is_refused():
    run = composed("objective=r3gan", *MIXED)
    networks = build_networks(run.model, (1, 8, 8))
    check_networks(networks, run.objective, BATCH, None)
    networks.discriminator.body.append(torch.nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match="with batch norm in the discriminator it depends on the other samples"):
        check_networks(networks, run.objective, BATCH, None)


@pytest.mark.parametrize("model", ["gan", "mog", "hmog", "mggan", "megan"])
def test_points_train_with_any_gate(model):
    """Also a batch that K does not divide."""
    k = 1 if model == "gan" else 4
    _, _, phases = game("data=ring", f"model={model}", f"model.k={k}", shape=(2,), batch=9)
    for phase in (phases.discriminator, phases.generator):
        told = take_step(phase)
        assert all(value.isfinite() for value in told.values()) and not told["skipped"]
