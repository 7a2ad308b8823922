"""Add an optimiser from a package outside the repository."""

from pathlib import Path

import torch

from tests.walks.page import run_example


def test_optimizer_of_another_package(mixgan, tmp_path, monkeypatch):
    """Steps of the sign: each weight has moved by a whole number of learning rates, one per step at most."""
    short = ("evaluation=none", "model.k=2", "training.nimg=40", "objective.d_steps=1", "training.checkpoint_nimg=8")
    outcome = run_example("An optimiser", mixgan, tmp_path, monkeypatch, *short, "training.keep=10")
    states = [
        torch.load(path, weights_only=True)["generator"]
        for path in sorted(Path(outcome.json["run_dir"], "checkpoints").glob("0*.pt"))
    ]
    assert len(states) == 5
    name = next(name for name in states[0] if name.endswith("weight") or "weight_KZH" in name)
    moved = (states[1][name].double() - states[0][name].double()) / 1e-4
    assert moved.abs().max() > 0.9 and (moved - moved.round()).abs().max() < 0.05
