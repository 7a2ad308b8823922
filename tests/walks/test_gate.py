"""Add a gate from a package outside the repository: one class and one YAML file."""

import json
from pathlib import Path

import pytest
import torch

import mixgan_cli
from mixgan_cli.errors import ConfigError
from tests.conftest import TINY
from tests.walks.page import write_example


@pytest.fixture
def package(monkeypatch, tmp_path):
    write_example("A gate", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


SETTINGS = ("--config-dir", "my_conf", "model/gate=cosine", "model.k=3", *TINY)


def test_gate_of_another_package(mixgan, package):
    outcome = mixgan("train", *SETTINGS)
    assert outcome.code == 0, outcome.err
    run = Path(outcome.json["run_dir"])
    results = json.loads((run / "results.json").read_text())
    assert results["run"]["parameters"]["gate"] == 3 * 100
    assert len(results["metrics"]["expert_usage"]) == 3 and results["metrics"]["gate_entropy"] > 0

    sampler = mixgan_cli.load(run, trusted=["mine"])
    assert sampler.sample(5, seed=1).shape == (5, 1, 8, 8)
    assert sampler.sample(2, expert=2).dtype == torch.uint8
    weights_BK = sampler.probabilities(sampler.latents(7))
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(7))

    for command in ("sample", "evaluate"):
        outcome = mixgan(command, f"run={run}", "trusted=[mine]", "hardware=cpu")
        assert outcome.code == 0, outcome.err


def test_gate_of_an_untrusted_package_is_refused(mixgan, package):
    run = mixgan("train", *SETTINGS, "evaluation=none").json["run_dir"]
    outcome = mixgan("sample", f"run={run}", "hardware=cpu")
    assert outcome.code == 2 and "mine.gates.CosineGate" in outcome.err and "trusted=" in outcome.err
    with pytest.raises(ConfigError, match=r"mine\.gates\.CosineGate"):
        mixgan_cli.load(run)


@pytest.mark.parametrize(
    ("override", "message"),
    [("model.gate.sharpness=high", "model.gate.sharpness='high'"), ("+model.gate.dropout=0.1", "model.gate.dropout")],
)
def test_wrong_key_of_the_gate_is_refused(mixgan, package, override, message):
    outcome = mixgan("train", *SETTINGS, override)
    assert outcome.code == 2 and message in outcome.err and not Path("outputs").exists()
