"""Scheduled values reach the steps: the penalty's weight, the augmentation, the moving average, terms."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mixgan_cli.optim import Linear
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.context import StepContext
from mixgan_cli.training.ema import MovingAverage
from tests.conftest import TINY

SHORT = (*TINY, "evaluation=none", "model.k=2", "training.report_nimg=8")


def losses(mixgan, key, *overrides):
    """Return what each iteration logged under this key."""
    outcome = mixgan("train", *SHORT, *overrides, "force=true")
    assert outcome.code == 0, outcome.err
    lines = Path(outcome.json["run_dir"], "metrics.jsonl").read_text().splitlines()
    return [record[key] for record in map(json.loads, lines) if key in record]


def test_penalty_follows_its_schedule(mixgan):
    """The penalty is proportional to its weight; in a warm-up, the factor is 0 at first."""
    words = ("model=hmog", "objective.d_steps=1", "training.nimg=16")
    plain = losses(mixgan, "loss/penalty", *words)
    halved = losses(mixgan, "loss/penalty", *words, "objective.penalty.weight=5")
    assert plain[0] == pytest.approx(2 * halved[0], rel=1e-5) and plain[0] > 0
    scheduled = losses(
        mixgan,
        "loss/penalty",
        *words,
        "+schedule@objective.penalty.schedule=warmup",
        "objective.penalty.schedule.warmup=16",
    )
    assert scheduled[0] == 0 < scheduled[1]


def test_term_follows_its_schedule(mixgan):
    """MEGAN's load balance is logged without its weight; while the weight is 0, it does not move the gate."""
    words = (
        "model=megan",
        "model.backbone.channels=2",
        "training.nimg=160",
        "objective.optimizer.gate.lr=0.01",
        "model.k=4",
    )
    zero = losses(mixgan, "loss/balance", *words, "objective.terms.balance.schedule.warmup=1000000")
    full = losses(mixgan, "loss/balance", *words)
    assert zero[0] == full[0] > 0 and zero[1:] != full[1:]


@pytest.mark.parametrize(("factor", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_augmentation_reaches_a_share_of_the_samples(factor, share):
    networks = SimpleNamespace(discriminator=SimpleNamespace(pack=1))
    context = StepContext(networks, None, 0, Compute(torch.device("cpu")), lambda samples: samples + 1)
    samples = torch.zeros(4000, 1, 2, 2)
    seen = context.augmented(samples, {"factor/augment": torch.tensor(factor)})
    assert seen.flatten(1).std(dim=1).max() == 0  # a sample is augmented whole, or not
    assert seen[:, 0, 0, 0].mean().item() == pytest.approx(share, abs=0.03)
    assert torch.equal(context.augmented(samples, {}), samples + 1)


def test_half_life_of_the_moving_average_follows_its_schedule():
    average = MovingAverage(torch.nn.Linear(2, 2), 1000, None, Linear(nimg=10_000, final=0.5))
    for nimg, half_life in {0: 1000, 5000: 750, 10_000: 500}.items():
        assert average.decay(nimg, 100) == pytest.approx(0.5 ** (100 / half_life))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("model.gate.schedule", "has nothing that a schedule could scale"),
        ("model.experts.schedule", "takes no such key"),
    ],
)
def test_schedule_of_what_cannot_be_scheduled_is_refused(mixgan, where, message):
    outcome = mixgan("train", *SHORT, f"+schedule@{where}=linear")
    assert outcome.code == 2 and message in outcome.err
