"""Generators that come with mixgan: model://NAME."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import mixgan_cli
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.pretrained import FOLDER, pretrained_folder, pretrained_models
from mixgan_cli.runs import RunFolder

NAMES = pretrained_models()


def test_all_six_systems_are_there():
    assert [f"{model}-fashion" for model in ("gan", "hmog", "madgan", "megan", "mggan", "mog")] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_generator_is_small_and_its_run_is_known(name):
    folder, generator = RunFolder(FOLDER / name), mixgan_cli.load(f"model://{name}")
    assert folder.path.joinpath("generator.safetensors").stat().st_size < 1_000_000
    results, config = folder.read_results(), folder.read_config()
    assert config["model"]["name"] == name.partition("-")[0] and config["model"]["k"] == generator.k
    assert results.run["parameters"]["generator"] == sum(each.numel() for each in generator.parameters())
    card = folder.path.joinpath("MODEL.md").read_text()
    assert f"| fid_classifier | {results.metrics['fid_classifier']:.4g} |" in card and "`float16`" in card
    images = generator.sample(8, seed=1)
    assert images.shape == (8, 1, 32, 32) and images.float().std(dim=0).mean() > 20


@pytest.mark.parametrize("name", NAMES)
def test_files_name_no_folder_of_a_machine(name):
    for file in ("config.yaml", "results.json", "MODEL.md"):
        assert re.findall(r"""(?:^|[\s"'`])/\w""", (FOLDER / name / file).read_text()) == []


def test_samples_are_written_to_the_current_folder(mixgan):
    outcome = mixgan("sample", "run=model://hmog-fashion", "n=4", "format=npz", "hardware=cpu")
    assert outcome.code == 0 and outcome.json["to"] == "hmog-fashion-seed0-n4.npz", outcome.err
    images = mixgan_cli.load("model://hmog-fashion").sample(4)
    np.testing.assert_array_equal(np.load(outcome.json["to"])["images"], images.permute(0, 2, 3, 1))


def test_export_has_the_metrics_of_the_run(mixgan):
    outcome = mixgan("export", "run=model://hmog-fashion", "onnx=false")
    assert outcome.code == 0 and outcome.json["to"] == "hmog-fashion-export", outcome.err
    metrics = RunFolder(pretrained_folder("hmog-fashion")).read_results().metrics
    assert f"| ms_ssim | {metrics['ms_ssim']:.4g} |" in Path("hmog-fashion-export/MODEL.md").read_text()
    exported, own = (
        mixgan_cli.load(each) for each in ("hmog-fashion-export/generator.safetensors", "model://hmog-fashion")
    )
    assert torch.equal(exported.sample(4), own.sample(4))


def test_unknown_name_is_refused_with_the_known_ones(mixgan):
    outcome = mixgan("sample", "run=model://hmog-fasion")
    assert outcome.code == 2 and "Did you mean 'hmog-fashion'" in outcome.err and ", ".join(NAMES) in outcome.err
    with pytest.raises(ConfigError, match="no such generator"):
        mixgan_cli.load("model://../models")


def test_checkpoints_belong_to_runs_only():
    with pytest.raises(ConfigError, match="checkpoint=best: model://mog-fashion is not the folder of a run"):
        mixgan_cli.load("model://mog-fashion", checkpoint="best")


def test_a_run_starts_from_its_weights(mixgan):
    words = (
        "experiment=fashion_mnist_small",
        "model=hmog",
        "data=digits",
        "data.size=32",
        "evaluation=none",
        "evaluation.metrics=[]",
    )
    outcome = mixgan("train", *words, "start_from=model://hmog-fashion", "training.nimg=64", "training.figures=false")
    assert outcome.code == 0, outcome.err
    lineage = RunFolder(Path(outcome.json["run_dir"])).read_config()["lineage"]
    assert lineage["source"] == "model://hmog-fashion" and lineage["weights"]
    other = mixgan("train", *words, "start_from=model://megan-fashion", "training.nimg=64")
    assert other.code == 2 and "start_from=model://megan-fashion: its ema is another network" in other.err
