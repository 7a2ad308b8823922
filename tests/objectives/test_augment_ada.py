"""The controller of StyleGAN2-ADA: steps of p, which losses it refuses, its log, and that a resumed run has its p."""

import json
from pathlib import Path

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.objectives.augment_ada import AdaptiveStrength
from tests.commands.test_train import _as_if_interrupted
from tests.conftest import TINY, composed

ADA = ("model=hmog", "objective=non_saturating", "objective/augment=ada")


def controller(p=0.0, every=4):
    return AdaptiveStrength(p, target=0.6, every=every, rise=500_000)


def after(controlled, *scores):
    """Return p after iterations with these scores of real images."""
    for scores_N in scores:
        controlled.observe(torch.as_tensor(scores_N))
        controlled.adapt()
    return controlled.p.item()


@pytest.mark.parametrize(("batch", "step"), [(64, 5.12e-4), (32, 2.56e-4)])
def test_p_moves_by_the_papers_step(batch, step):
    sure, unsure = torch.full((batch,), 0.3), torch.full((batch,), -7.0)
    controlled = controller()
    assert after(controlled, *[sure] * 3) == 0
    assert after(controlled, sure) == pytest.approx(step, rel=1e-6)
    assert after(controlled, *[sure] * 4) == pytest.approx(2 * step, rel=1e-6)
    assert after(controlled, *[unsure] * 8) == pytest.approx(0, abs=1e-9)
    assert after(controlled, *[unsure] * 4) == 0


def test_p_follows_the_mean_sign_of_the_interval():
    """Of 40 scores, 32 above 0 have mean sign 0.6: no change; one more raises p, and 0 and NaN count neither way."""
    scores = torch.tensor([1.0] * 32 + [-1.0] * 8).view(4, 10)
    assert after(controller(0.5), *scores) == 0.5
    scores[3, 9] = 2.0
    assert after(controller(0.5), *scores) == pytest.approx(0.5 + 40 / 500_000)
    scores[3, 9] = 0.0
    assert after(controller(0.5), *scores) == pytest.approx(0.5 + 40 / 500_000)
    scores[0, :2] = float("nan")
    assert after(controller(0.5), *scores) == pytest.approx(0.5 - 40 / 500_000)


def test_p_has_no_upper_bound():
    assert after(controller(1.0), *[torch.ones(50)] * 4) > 1


def test_steps_of_the_discriminator_in_an_iteration_count_together():
    controlled = controller(every=1)
    for _ in range(5):
        controlled.observe(torch.ones(10))
    controlled.adapt()
    assert controlled.p.item() == pytest.approx(50 / 500_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("objective=wgan_gp",), "objective.augment.target: the sign of a score has no meaning in Wasserstein"),
        (("objective=r3gan", "model.backbone.discriminator_norm=none"), "no meaning in RelativisticPairing"),
        (("objective=lsgan",), "no meaning in LeastSquares"),
        (
            ("objective=hinge", "+schedule@objective.augment.schedule=burn_in"),
            "objective.augment.schedule: p follows the discriminator",
        ),
    ],
)
def test_losses_without_a_sign_and_schedules_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        composed("model=hmog", "objective/augment=ada", *changes)


@pytest.mark.parametrize("objective", ["non_saturating", "minimax", "hinge", "r1"])
def test_logistic_and_hinge_losses_are_accepted(objective):
    assert composed(f"objective={objective}", "objective/augment=ada").objective.augment["target"] == 0.6


def logged(folder):
    records = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return [record["augment/p"] for record in records if "augment/p" in record]


def test_strength_is_logged_and_resumed(mixgan):
    """With target -0.99, p rises from 0.5 by a batch every second iteration, unless all scores are negative."""
    settings = [*TINY, *ADA, "evaluation=none", "training.batch=4", "model.k=2", "training.report_nimg=4"]
    settings += ["training.checkpoint_nimg=4", "objective.augment.p=0.5", "objective.augment.every=2"]
    settings += ["objective.augment.rise=100", "objective.augment.target=-0.99"]
    whole = mixgan("train", *settings, "training.nimg=32", "paths.run=whole")
    assert whole.code == 0, whole.err
    assert mixgan("train", *settings, "training.nimg=12", "paths.run=parts").code == 0  # in the middle of an interval
    _as_if_interrupted(Path("parts"), 32)
    resumed = mixgan("train", *settings, "training.nimg=32", "paths.run=parts")
    assert resumed.code == 0 and "resumed at 12 images" in resumed.err
    states = [torch.load(Path(run, "checkpoints/last.pt"), weights_only=True) for run in ("whole", "parts")]
    for part in ("augment", "generator", "discriminator", "ema"):
        assert states[0][part].keys() == states[1][part].keys()
        assert all(torch.equal(value, states[1][part][name]) for name, value in states[0][part].items()), part
    assert logged("whole") == logged("parts") and len(set(logged("whole"))) > 1
