"""What the discriminator sees when images are augmented, what the generator learns through it, and what is refused."""

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.training.checks import check_shape
from tests.conftest import TINY, composed, take_step
from tests.training.test_phases import BATCH, game


class Paled:
    """An augmentation without chance, which keeps what it was given and what it made of it."""

    given, made = [], []

    def __call__(self, images):
        self.given.append(images)
        self.made.append(0.5 * images + 0.25)
        return self.made[-1]


PALED = f"objective.augment={{_target_: {__name__}.Paled}}"


@pytest.fixture(autouse=True)
def _nothing_seen():
    Paled.given.clear()
    Paled.made.clear()


def seen_by(discriminator):
    """What the discriminator is called with, from now on."""
    seen = []
    discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    return seen


def test_discriminator_trains_on_augmented_reals_and_fakes():
    networks, real, (phase, _) = game("model=hmog", PALED)
    seen = seen_by(networks.discriminator)
    take_step(phase)
    on_real, on_fake, between = seen
    assert torch.equal(Paled.given[0], real) and len(Paled.given) == 2  # augmented once, the penalty's too
    assert torch.equal(on_real, 0.5 * real + 0.25)
    assert torch.equal(on_fake, Paled.made[1]) and not torch.equal(on_fake, Paled.given[1])
    along = ((between - on_real) / (on_fake - on_real)).flatten(1)
    torch.testing.assert_close(along, along[:, :1].expand_as(along), rtol=0, atol=1e-3)


def test_losses_and_penalty_use_augmented_images(double):
    """The penalty's gradient is that at the discriminator's input: through the augmentation it would be half of it."""
    networks, real, (discriminator_phase, generator_phase) = game("model=hmog", PALED)

    def critic(samples):
        return networks.discriminator(samples).scores_N

    torch.manual_seed(5)
    latent_BZ, alpha = networks.generator.latents(BATCH), torch.rand(BATCH, 1, 1, 1)
    with torch.no_grad():
        real_T, fake_T = 0.5 * real + 0.25, 0.5 * networks.generator(latent_BZ).samples + 0.25
        scores = critic(fake_T).mean() - critic(real_T).mean()
    between = real_T + alpha * (fake_T - real_T)
    norms = torch.func.vmap(torch.func.jacrev(lambda x: critic(x[None])[0]))(between).flatten(1).norm(dim=1)
    penalty = 10 * (norms - 1).square().mean().item()

    torch.manual_seed(5)
    told = take_step(discriminator_phase)
    assert told["loss/penalty"].item() == pytest.approx(penalty, rel=1e-10)
    assert told["loss/discriminator"].item() == pytest.approx(scores.item() + penalty, rel=1e-10)

    torch.manual_seed(6)
    with torch.no_grad():
        expected = -critic(0.5 * networks.generator(networks.generator.latents(BATCH)).samples + 0.25).mean().item()
    torch.manual_seed(6)
    assert take_step(generator_phase)["loss/generator"].item() == pytest.approx(expected, rel=1e-10)


def test_generator_gradients_pass_through_diffaugment(double):
    """Its gradient against a difference of the loss, over one weight of the last layer."""
    networks, _, (_, phase) = game("model=hmog", "objective/augment=diffaugment")
    seen = seen_by(networks.discriminator)
    made = []
    networks.generator.register_forward_hook(lambda module, inputs, output: made.append(output.samples.detach()))
    weight = networks.generator.trunk[1][0].weight
    before, step, losses = weight.detach().clone(), 1e-6, []
    state = {name: value.clone() for name, value in networks.generator.state_dict().items()}
    for change in (0, step, -step):
        networks.generator.load_state_dict(state)
        with torch.no_grad():
            weight[0, 0, 1, 1] = before[0, 0, 1, 1] + change
        torch.manual_seed(6)
        losses.append(take_step(phase)["loss/generator"].item())
        if change == 0:
            gradient = weight.grad[0, 0, 1, 1].item()
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in networks.generator.parameters())
    assert gradient == pytest.approx((losses[1] - losses[2]) / (2 * step), rel=1e-4)
    assert not torch.allclose(seen[0], made[0]) and (seen[0] == 0).any() and not (made[0] == 0).any()


@pytest.mark.parametrize("model", ["madgan", "mggan", "megan", "madgan_sim"])
def test_all_phases_see_augmented_images(model):
    networks, _, phases = game(f"model={model}", PALED, "objective.reuse_latents=false", "training.fakes=24")
    seen = seen_by(networks.discriminator)
    discriminator_phase, generator_phase = phases.discriminator, phases.generator
    take_step(discriminator_phase)
    take_step(generator_phase)
    passes = [images for images in seen if any(torch.equal(images, made) for made in Paled.made)]
    assert len(Paled.made) == len(passes) == 3  # reals and fakes, and fakes for the generators
    assert len(seen) - len(passes) == (1 if model == "megan" else 0)  # its penalty's


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("training.flips=true", "training.flips=true: points have no left and right"),
        ("training.dequantize=true", "training.dequantize=true: points have no grey levels"),
        ("objective/augment=diffaugment", "objective.augment: DiffAugment is for images"),
    ],
)
def test_points_refuse_what_is_for_images(override, reason, mixgan, tmp_path):
    run = composed(override)
    check_shape((1, 8, 8), run.training, run.objective)
    with pytest.raises(ConfigError, match=reason):
        check_shape((2,), run.training, run.objective)
    outcome = mixgan("train", "debug=short", "evaluation.download=false", "data=ring", override)
    assert outcome.code == 2 and reason in outcome.err and "Traceback" not in outcome.err
    assert not list(tmp_path.glob("outputs/*"))


def test_points_accept_an_augmentation_for_all_shapes():
    run = composed("data=ring", PALED)
    check_shape((2,), run.training, run.objective)


def test_run_with_flips_and_diffaugment_finishes(mixgan):
    outcome = mixgan("train", *TINY, "training.flips=true", "objective/augment=diffaugment")
    assert outcome.code == 0, outcome.err
    assert 0 <= outcome.json["metrics"]["ms_ssim"] <= 1
