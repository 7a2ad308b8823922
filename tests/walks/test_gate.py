"""Add a gate from a package outside the repository: one class and one YAML file."""

import json
from pathlib import Path

import pytest
import torch

import mixgan_cli
from mixgan_cli.errors import ConfigError
from tests.conftest import TINY

GATE = '''
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from mixgan_cli.models import Gate


class CosineGate(Gate):
    """A softmax over the cosine similarity of a latent and K learned prototypes."""

    hard = False

    def __init__(self, k: int, latent_size: int, sharpness: float) -> None:
        super().__init__()
        self.k, self.sharpness = k, sharpness
        self.prototypes_KZ = nn.Parameter(torch.randn(k, latent_size))

    def forward(self, latent_BZ):
        similarity_BK = cosine_similarity(latent_BZ.unsqueeze(1), self.prototypes_KZ, dim=2)
        return (self.sharpness * similarity_BK).softmax(dim=1)
'''
YAML = """
_target_: my_gates.CosineGate
sharpness: 5.0  # Factor of the similarity; larger values select fewer experts
"""


@pytest.fixture
def package(monkeypatch, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/my_gates.py").write_text(GATE)
    (tmp_path / "my_conf/model/gate").mkdir(parents=True)
    (tmp_path / "my_conf/model/gate/cosine.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path / "package")


SETTINGS = ("--config-dir", "my_conf", "model/gate=cosine", "model.k=3", *TINY)


def test_gate_of_another_package(mixgan, package):
    outcome = mixgan("train", *SETTINGS)
    assert outcome.code == 0, outcome.err
    run = Path(outcome.json["run_dir"])
    results = json.loads((run / "results.json").read_text())
    assert results["run"]["parameters"]["gate"] == 3 * 100
    assert len(results["metrics"]["expert_usage"]) == 3 and results["metrics"]["gate_entropy"] > 0

    sampler = mixgan_cli.load(run, trusted=["my_gates"])
    assert sampler.sample(5, seed=1).shape == (5, 1, 8, 8)
    assert sampler.sample(2, expert=2).dtype == torch.uint8
    weights_BK = sampler.probabilities(sampler.latents(7))
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(7))

    for command in ("sample", "evaluate"):
        outcome = mixgan(command, f"run={run}", "trusted=[my_gates]", "hardware=cpu")
        assert outcome.code == 0, outcome.err


def test_gate_of_an_untrusted_package_is_refused(mixgan, package):
    run = mixgan("train", *SETTINGS, "evaluation=none").json["run_dir"]
    outcome = mixgan("sample", f"run={run}", "hardware=cpu")
    assert outcome.code == 2 and "my_gates.CosineGate" in outcome.err and "trusted=" in outcome.err
    with pytest.raises(ConfigError, match=r"my_gates\.CosineGate"):
        mixgan_cli.load(run)


@pytest.mark.parametrize(
    ("override", "message"),
    [("model.gate.sharpness=high", "model.gate.sharpness='high'"), ("+model.gate.dropout=0.1", "model.gate.dropout")],
)
def test_wrong_key_of_the_gate_is_refused(mixgan, package, override, message):
    outcome = mixgan("train", *SETTINGS, override)
    assert outcome.code == 2 and message in outcome.err and not Path("outputs").exists()
