"""Runs of this version and of the one before are used as if they had been trained today.

`tests/stored_runs` has a run of each, without samples: TRAINED is the command that trains them.
"""

import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import mixgan_cli
from mixgan_cli.config.components import TARGET, target_of
from mixgan_cli.config.identity import ADDED, configuration_hash
from mixgan_cli.config.schema import Run
from mixgan_cli.runs import RunFolder, config_differences
from mixgan_cli.training.checkpoint import read_state
from tests.conftest import composed

STORED = Path(__file__).parent / "stored_runs"
MEASURED = ("hardware=cpu", "evaluation.metrics=[mixture,ms_ssim]", "evaluation.n_fake=16", "evaluation.n_real=16")
TRAINED = (
    *("debug=short", "hardware=cpu", "hardware.threads=1", "data=digits", "data.size=8", "model=hmog", "model.k=2"),
    *("training.nimg=96", "training.batch=8", "training.report_nimg=48", "training.checkpoint_nimg=96"),
    *("training.sample_nimg=null", "training.figures=false", "model.backbone.channels=1", "model.latent.size=4"),
    *("evaluation.metrics=[mixture,ms_ssim]", "evaluation.n_fake=16", "evaluation.n_real=16"),
    *("evaluation.download=false", "objective=hmog", "tuning=none", "model/backbone=dcgan"),
)
OWN = {"0.2.0": ("data.split_seed=null",), "0.3.0": ()}
"""The overrides by which today's defaults are those of the version."""


@pytest.fixture(params=sorted(OWN))
def stored(request, tmp_path):
    shutil.copytree(STORED / request.param, tmp_path / "run")
    return request.param


def test_there_is_a_run_of_each_version():
    assert {path.name for path in STORED.iterdir()} == OWN.keys()
    assert sum(path.stat().st_size for path in STORED.rglob("*") if path.is_file()) < 200_000


def test_stored_run_is_evaluated_sampled_exported_reported(mixgan, stored):
    before = json.loads(Path("run/results.json").read_text())["metrics"]
    for checkpoint in ((), ("checkpoint=last",)):
        measured = mixgan("evaluate", "run=run", *MEASURED, *checkpoint)
        assert measured.code == 0, measured.err
        assert measured.json["metrics"]["ms_ssim"] == pytest.approx(before["ms_ssim"], rel=1e-5)
        sampled = mixgan("sample", "run=run", "n=2", "hardware=cpu", *checkpoint)
        assert sampled.code == 0, sampled.err
    assert mixgan_cli.load("run").sample(2).dtype == torch.uint8
    for words in (("export", "run=run", "onnx=false"), ("report", "run"), ("list", "run")):
        outcome = mixgan(*words)
        assert outcome.code == 0 and "warning" not in outcome.err, outcome.err


def test_same_command_finds_the_stored_run(mixgan, stored):
    outcome = mixgan("train", *TRAINED, *OWN[stored], "paths.run=run")
    assert outcome.code == 0 and "this run is finished" in outcome.err, outcome.err
    run = composed(*TRAINED, *OWN[stored], "hardware.precision=float32").model_dump(mode="json")
    assert configuration_hash(RunFolder(Path("run")).read_config()) == configuration_hash(run)


def test_stored_run_is_trained_longer(mixgan, stored):
    outcome = mixgan("train", "continue=run", "training.nimg=192", "paths.run=longer")
    assert outcome.code == 0, outcome.err
    assert read_state(Path("longer/checkpoints/last.pt"))["progress"]["nimg"] >= 192


HASHES = {
    (): "55ba8ce7",
    ("data=mnist", "model=mggan"): "134aa396",
    ("data=ring", "model=madgan_sim"): "32e4a012",
    ("data=fashion_mnist", "model=megan"): "0d469389",
}


@pytest.mark.parametrize("words", HASHES, ids=" ".join)
def test_new_keys_do_not_change_the_hash(words):
    """If this fails, a key was added: ADDED is to have the value that changes nothing. Or a default has changed."""
    assert configuration_hash(composed(*words).model_dump(mode="json")) == HASHES[words]


@pytest.mark.parametrize("key", ADDED)
def test_added_key_has_its_value_without_being_given(key):
    """An older run lacks it, so the class, or the schema, has the recorded value as its default."""
    group, _, name = key.rpartition(".")
    found = []
    for words in ((), ("model=megan",), ("model=madgan",), ("model=madgan_sim",), ("model=dmgan",), ("data=mnist",)):
        config = composed(*words).model_dump(mode="json")
        node = OmegaConf.select(OmegaConf.create(config), group)
        if node is None or name not in node:
            continue
        if TARGET in node:
            default = inspect.signature(target_of(node)).parameters[name].default
            if default is inspect.Parameter.empty:
                continue  # this class has always had the key
            found.append(default)
        else:
            found.append(Run.model_fields[group].annotation.model_fields[name].default)
        without = json.loads(json.dumps(config))
        inner = without
        for step in group.split("."):
            inner = inner[step]
        value = inner.pop(name)
        assert bool(config_differences(without, config)) == (value != ADDED[key] and not group.startswith("alarms"))
    assert found and all(value == ADDED[key] for value in found)
