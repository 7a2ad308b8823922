"""Add an adversarial loss from a package outside the repository."""

import json
import math
from pathlib import Path

from tests.walks.page import run_example


def test_adversarial_loss_of_another_package(mixgan, monkeypatch, tmp_path):
    """The loss of a square is never negative, unlike that of the default model's objective."""
    outcome = run_example("An adversarial loss", mixgan, tmp_path, monkeypatch, "model.k=2", "evaluation=none")
    records = [json.loads(line) for line in Path(outcome.json["run_dir"], "metrics.jsonl").read_text().splitlines()]
    losses = [record for record in records if "loss/generator" in record]
    assert losses and all(math.isfinite(record["loss/discriminator"]) for record in losses)
    assert all(record["loss/generator"] >= 0 and record["loss/discriminator"] >= 0 for record in losses)
