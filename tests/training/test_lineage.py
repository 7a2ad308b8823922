"""A run that goes on from another one: trained longer, or started from its weights."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mixgan_cli import load
from mixgan_cli.training.checkpoint import read_state
from tests.commands.test_train import lines, same, weights
from tests.conftest import MGGAN, TINY

NEW_MODEL = [setting for setting in TINY if not setting.startswith("training.nimg")]


def config_of(run_dir):
    return OmegaConf.to_container(OmegaConf.load(Path(run_dir) / "config.yaml"))


@pytest.fixture
def short(mixgan):
    """The folder of a finished run of 120 images."""
    return mixgan("train", *TINY).json["run_dir"]


@pytest.mark.parametrize("more", [(), MGGAN])
def test_continued_run_equals_one_of_this_length(mixgan, more):
    short = mixgan("train", *TINY, "schedule.warmup=64", *more).json["run_dir"]
    outcome = mixgan("train", f"continue={short}", "training.nimg=240")
    assert outcome.code == 0, outcome.err
    assert f"continues {short} at " in outcome.err and "warning" not in outcome.err
    longer = outcome.json["run_dir"]
    whole = mixgan("train", *TINY, "schedule.warmup=64", *more, "training.nimg=240", "paths.outputs=others").json
    assert longer != short and Path(longer).name == Path(whole["run_dir"]).name
    assert same(weights(longer), weights(whole["run_dir"]))
    assert outcome.json["metrics"] == whole["metrics"]


@pytest.mark.integ
def test_continued_run_keeps_records_samples_and_best_state(mixgan, short):
    longer = mixgan("train", f"continue={short}", "training.nimg=240").json["run_dir"]
    before, after = lines(short), lines(longer)
    assert after[: len(before) - 1] == before[:-1]  # the last line is the evaluation of the shorter run
    assert after[-1]["nimg"] == 240
    assert {path.name for path in Path(short, "samples").iterdir()} < {
        path.name for path in Path(longer, "samples").iterdir()
    }
    assert Path(longer, "checkpoints", "best.pt").is_file()
    assert config_of(longer)["lineage"] == {"how": "continued", "source": short, "nimg": 120, "weights": None}
    assert json.loads(Path(longer, "results.json").read_text())["run"]["lineage"]["source"] == short
    page = Path(mixgan("report", longer).json["page"]).read_text(encoding="utf-8")
    assert f"continues {short}, at 120 images" in page
    assert Path(short, "DONE").is_file() and len(lines(short)) == len(before)


def test_same_command_resumes_a_continued_run(mixgan, short, monkeypatch):
    from mixgan_cli.training import loop

    real, calls = loop.iterate, []

    def failing(state, *others):
        calls.append(state.progress.nimg)
        if len(calls) == 2:
            raise RuntimeError("stop")
        return real(state, *others)

    command = ("train", f"continue={short}", "training.nimg=240", "training.checkpoint_nimg=40")
    monkeypatch.setattr(loop, "iterate", failing)
    assert mixgan(*command).code == 1
    outcome = mixgan(*command)
    assert "resumed at 160 images" in outcome.err
    assert calls == [120, 160, 160, 200]
    assert mixgan(*command).err.count("this run is finished") == 1


def test_run_with_a_length_in_epochs_is_continued(mixgan):
    short = mixgan("train", *TINY).json["run_dir"]
    outcome = mixgan(
        "train", f"continue={short}", "training.nimg=null", "training.epochs=1", "training.report_nimg=400"
    )
    assert outcome.code == 0, outcome.err
    config = config_of(outcome.json["run_dir"])
    assert config["training"]["nimg"] == 1500 and config["training"]["report_nimg"] == 400


def test_schedule_that_depends_on_the_length_is_reported(mixgan):
    settings = [*TINY, "schedule=linear"]
    short = mixgan("train", *settings).json["run_dir"]
    outcome = mixgan("train", f"continue={short}", "training.nimg=240")
    assert "objective.optimizer.generator.schedule depends on the length of the run" in outcome.err
    whole = mixgan("train", *settings, "training.nimg=240").json["run_dir"]
    assert outcome.json["run_dir"] != whole  # it is another run
    assert config_of(outcome.json["run_dir"])["lineage"]["weights"]


def test_run_that_an_alarm_ended_is_another_one_when_continued(mixgan):
    """A run of the new length from the start ends where the alarm is raised."""
    settings = [*TINY, "alarms.stop=true", "alarms.spread=1000", "objective.d_steps=1"]
    short = mixgan("train", *settings).json["run_dir"]
    refused = mixgan("train", f"continue={short}", "training.nimg=240", "training.report_nimg=80")
    assert refused.code == 2 and "training.report_nimg: continue=" in refused.err
    outcome = mixgan("train", f"continue={short}", "training.nimg=240")
    assert outcome.code == 0 and "an alarm ended" in outcome.err, outcome.err
    whole = mixgan("train", *settings, "training.nimg=240").json["run_dir"]
    assert outcome.json["run_dir"] != whole and config_of(outcome.json["run_dir"])["lineage"]["weights"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training.nimg=120"], "has been trained on 120 images already"),
        ([], "give the new length of the run"),
        (["training.nimg=240", "model.k=4"], "model.k: continue="),
        (["training.nimg=240", "experiment=fashion_mnist_alike"], "experiment: continue="),
        (["training.nimg=240", "seed=1"], "start_from="),
        (["training.nimg=240", "start_from=x"], "a run goes on from one of them"),
    ],
)
def test_what_would_change_a_continued_run_is_refused(mixgan, short, words, message):
    outcome = mixgan("train", f"continue={short}", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert {path.name for path in Path("outputs").iterdir()} == {Path(short).name}


def test_settings_without_effect_on_the_result_may_change(mixgan, short):
    words = ("training.nimg=160", "hardware=auto", "training.keep=2", "paths.run=here", "name=longer")
    outcome = mixgan("train", f"continue={short}", *words)
    assert outcome.code == 0, outcome.err
    assert outcome.json["run_dir"] == "here" and config_of("here")["training"]["keep"] == 2
    assert config_of("here")["name"] == "longer"


def test_configuration_that_names_an_unknown_class_is_refused(mixgan, short):
    config = config_of(short)
    config["model"]["gate"]["_target_"] = "os.system"
    Path(short, "config.yaml").write_text(OmegaConf.to_yaml(config))
    outcome = mixgan("train", f"continue={short}", "training.nimg=240")
    assert outcome.code == 2 and "os.system" in outcome.err


@pytest.mark.parametrize("file", ["", "checkpoints/best.pt", "checkpoints/last.pt"])
def test_new_run_starts_from_weights(mixgan, short, file):
    settings = (
        "training.nimg=40",
        "objective.optimizer.generator.lr=1e-30",
        "objective.optimizer.discriminator.lr=1e-30",
    )
    outcome = mixgan("train", *NEW_MODEL, *settings, f"start_from={Path(short, file)}", "training.ema_half_life_nimg=0")
    assert outcome.code == 0, outcome.err
    assert f"started from the weights of {Path(short, file)}" in outcome.err
    new = outcome.json["run_dir"]
    state, before = (read_state(Path(each, "checkpoints", "last.pt")) for each in (new, short))
    for name in ("generator", "discriminator"):
        for key, value in before[name].items():
            if not key.startswith("gate"):  # which has another optimiser
                torch.testing.assert_close(state[name][key], value, rtol=0, atol=1e-20)
    lineage = config_of(new)["lineage"]
    assert lineage["how"] == "started" and lineage["nimg"] == 120 and len(lineage["weights"]) == 16


def test_new_run_starts_from_a_generator_file(mixgan, short):
    file = Path(short, "checkpoints", "generator.safetensors")
    still = ("objective.optimizer.generator.lr=1e-30", "objective.optimizer.discriminator.lr=1e-30")
    new = mixgan("train", *NEW_MODEL, "training.nimg=40", *still, f"start_from={file}").json["run_dir"]
    assert torch.equal(load(new).sample(4, seed=1), load(short).sample(4, seed=1))


def test_runs_from_equal_weights_are_one_run(mixgan, short):
    command = ("train", *NEW_MODEL, "training.nimg=40")
    first = mixgan(*command, f"start_from={short}").json["run_dir"]
    assert "this run is finished" in mixgan(*command, f"start_from={short}/checkpoints/last.pt").err
    assert mixgan(*command).json["run_dir"] != first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.backbone.channels=8"], "another network"),
        (["start_from=nowhere.pt"], "there is no such checkpoint"),
        (["start_from=."], "not a run's folder"),
    ],
)
def test_weights_that_do_not_fit_are_refused(mixgan, short, words, message):
    outcome = mixgan("train", *NEW_MODEL, "training.nimg=40", *([f"start_from={short}", *words][-2:]))
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("key", ["continue", "start_from"])
def test_benchmark_refuses_a_lineage(mixgan, key):
    outcome = mixgan("bench", *TINY, f"{key}=outputs")
    assert outcome.code == 2 and "it measures new networks" in outcome.err
