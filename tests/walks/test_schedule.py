"""Add a learning-rate schedule from a package outside the repository."""

from pathlib import Path

import torch

from mixgan_cli.runtime.signals import Interrupted
from mixgan_cli.training import loop
from tests.conftest import TINY
from tests.walks.page import run_example

SHORT = (*TINY, "evaluation=none", "model.k=2")
PER_ITERATION = 40
"""Images of one iteration: HMoG's five discriminator steps on batches of 8."""


def state_of(run):
    return torch.load(Path(run, "checkpoints/last.pt"), weights_only=True)


def test_schedule_of_another_package(mixgan, tmp_path, monkeypatch):
    """Each learning rate is its base value times the factor at the start of the last iteration."""
    state = state_of(run_example("A schedule", mixgan, tmp_path, monkeypatch, *SHORT).json["run_dir"])
    factor = 0.5 ** ((state["progress"]["nimg"] - PER_ITERATION) // 32)
    assert factor == 0.25 and set(state["optimizers"]) == {"generator", "discriminator"}
    for optimizer in state["optimizers"].values():
        (group,) = optimizer["param_groups"]
        assert group["lr"] == torch.tensor(group["base_lr"] * factor)


def test_resumed_run_follows_the_schedule_exactly(mixgan, tmp_path, monkeypatch):
    """Interrupted after its first iteration and resumed, a run ends with the weights of an uninterrupted one."""
    run_example("A schedule", mixgan, tmp_path, monkeypatch, *SHORT, "paths.run=whole")
    command = ("train", "--config-dir", "my_conf", "schedule=halving", *SHORT, "paths.run=parts")
    iterate = loop.iterate

    def interrupted(state, *others):
        if state.progress.nimg == PER_ITERATION:
            raise Interrupted(15)
        iterate(state, *others)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "iterate", interrupted)
        assert mixgan(*command).code == 143
    assert mixgan(*command).code == 0
    whole, parts = state_of("whole"), state_of("parts")
    assert whole["progress"]["nimg"] == parts["progress"]["nimg"] == 3 * PER_ITERATION
    for network in ("generator", "discriminator", "ema"):
        assert all(torch.equal(value, parts[network][name]) for name, value in whole[network].items())
