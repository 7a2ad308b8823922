"""The study of docs/study.md: its runs differ in what they compare only, and its tables follow from its records."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from docs import study
from mixgan_cli.config.components import build
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.runs import RunFolder
from mixgan_cli.training.checks import check_networks
from tests.test_reproduce import runs


def record(seed, value, **cell):
    known = {
        "data": "mnist",
        "gate": "tree",
        "head": "score",
        "objective": "r1",
        "k": 8,
        "nmi": 0.1,
        "nmi_by_level": [0.2],
    }
    return known | cell | {"seed": seed, "fid_classifier": value}


@pytest.mark.parametrize("size", ["", "SIZE=full"])
def test_generators_have_equally_many_parameters(size):
    """To 0.5 % of the single generator that they are compared with, or 0.6 % at full size; K is 2, 8 or 32."""
    counts = {}
    for run in runs("study", *([size] if size else [])):
        with torch.device("meta"):
            networks = build_networks(run.model, build(run.data).shape)
        check_networks(networks, run.objective, run.training.batch, run.training.fakes)
        single = run.model.name == "gan"
        if single and run.model.latent.size not in study.SINGLE:
            continue  # the one with the layers of the mixtures, which is smaller
        k = study.SINGLE[run.model.latent.size] if single else run.model.k
        counts.setdefault((run.data["name"], k, single), set()).add(parameter_counts(networks)["generator"])
    for data, k, single in counts:
        if single:
            (reference,) = counts[data, k, True]
            assert all(abs(count / reference - 1) < (0.006 if size else 0.005) for count in counts[data, k, False])


def test_all_cells_take_the_same_steps_with_the_same_images():
    lengths = {
        (
            run.training.nimg,
            run.training.batch,
            run.training.fakes,
            run.objective.d_steps,
            run.model.backbone["channels"],
        )
        for run in runs("study")
    }
    assert len(lengths) == 1


def test_differences_are_paired_by_seed():
    values = {"tree": [3.0, 5.0, 4.0, 9.0], "none": [4.0, 5.5, 6.0]}
    values[study.SMALL] = [7.0]
    records = [record(seed, value, gate=gate) for gate in values for seed, value in enumerate(values[gate])]
    table = study.Study(reversed(records)).gates()
    assert [row[2] for row in table[1:]] == [study.SMALL, "none", "tree"]
    row = dict(zip(table[0], next(row for row in table if row[2] == "tree"), strict=True))
    wanted = stats.ttest_rel(values["tree"][:3], values["none"])
    low, high = wanted.confidence_interval()
    assert row["difference"] == f"{np.mean(values['tree'][:3]) - np.mean(values['none']):+.2f}"
    assert row["95 % interval"] == f"{low:.2f} to {high:.2f}" and row["p (Holm)"] == f"{wanted.pvalue:.2g}"  # one test
    assert row["`fid_classifier` ↓ (seeds)"] == f"{5.25:.2f} ± {np.std(values['tree'], ddof=1):.2f} (4)"


def test_runs_become_records_once(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RECORDS", tmp_path / "study.jsonl")
    config = {
        "data": {"name": "mnist"}, "seed": 3, "choices": {"objective": "wgan_gp"},
        "model": {"k": 1, "latent": {"size": 262}, "gate": {"_target_": "mixgan_cli.models.NoGate"},
                  "head": {"_target_": "mixgan_cli.models.ScoreHead"}},
    }  # fmt: skip
    results = {"run": {"hash": "abc", "seconds": 9.87, "parameters": {"generator": 7}}, "protocol": {},
               "metrics": {"fid_classifier": 2.5, "ms_ssim": 0.1, "other": 1}, "unavailable": {}}  # fmt: skip
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    RunFolder(folder).write_config(config)
    (folder / "results.json").write_text(json.dumps(results))
    study.add(tmp_path / "runs")
    assert study.read_records() == []
    (folder / "DONE").touch()
    for _ in range(2):
        study.add(tmp_path / "runs")
    assert study.read_records() == [
        {"data": "mnist", "gate": "none", "head": "score", "objective": "wgan_gp", "k": 8, "seed": 3, "hash": "abc",
         "parameters": 7, "seconds": 9.9, "fid_classifier": 2.5, "ms_ssim": 0.1}
    ]  # fmt: skip


def test_tables_of_the_page_are_those_of_the_records():
    page = study.PAGE.read_text()
    assert study.filled(page, study.Study(study.read_records())) == page
