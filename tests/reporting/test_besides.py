"""Published beside ours: which row stands where, and what is said of it."""

import json

import pytest
import yaml

from mixgan_cli.evaluation.protocol import differences
from mixgan_cli.reporting.besides import beside, verdict
from mixgan_cli.reporting.published import figures, matches
from mixgan_cli.reporting.sweep import Table
from mixgan_cli.sweeps.sweep import Job
from tests.conftest import composed

METRICS = {"fid_hmog2019": 20.0, "knn_real_hmog2019": 0.7, "knn_fake_hmog2019": 0.8}
ALIKE = {
    "n_fake": 10_000, "n_real": 10_000, "precision": "float32", "ema": False, "neighbours": 5,
    "neighbour_features": "features", "extractors": {"hmog2019": {"weights": "0cc3c7bd" + "0" * 8}},
    "reals": {"split": "held_out", "train": {"n": 60_000}},
}  # fmt: skip


@pytest.fixture
def table(tmp_path):
    """Return the table of jobs of these experiments, K, beta and metrics."""

    def make(*jobs):
        made = []
        for number, (overrides, metrics, protocol) in enumerate(jobs):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            config = composed(*overrides).model_dump(mode="json")
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            results = {"run": {"nimg": 64}, "metrics": metrics, "unavailable": {}, "protocol": protocol}
            (folder / "results.json").write_text(json.dumps(results))
            made.append(Job(tuple(overrides), number, "done", 0, run_dir=str(folder)))
        return Table(made, differences)

    return make


def experiment(model, *more):
    return [f"experiment=hmog2019_{model}", "data=fashion_mnist", *more]


def test_ours_stand_beneath_the_published_rows_of_their_models(table):
    jobs = [(experiment(model, f"model.k={k}", f"seed={seed}"), METRICS, ALIKE)
            for model in ("hmog", "mog") for k in (4, 8) for seed in (1, 2)]  # fmt: skip
    (found,) = beside(table(*jobs))
    assert found.data == "fashion_mnist" and len(found.published) == 29
    assert [(row["of"], row["system"], row["K"]) for row in found.rows] == [
        ("hmog2019", "HME-L-2", 4), ("ours", "hmog", 4), ("hmog2019", "HME-L-3", 8), ("ours", "hmog", 8),
        ("hmog2019", "ME-L-4", 4), ("ours", "mog", 4), ("hmog2019", "ME-L-8", 8), ("ours", "mog", 8),
    ]  # fmt: skip
    theirs, ours = found.rows[2:4]
    assert theirs["fid_hmog2019"] == "19.64 ± 0.89" and theirs["n"] == "10,000"
    assert ours["fid_hmog2019"] == "20 ± 0" and ours["comparable"] == "measured alike" and ours["over"] == "seed 1, 2"


def test_every_reason_is_told(table):
    few = {**ALIKE, "n_fake": 500, "ema": True}
    jobs = [(experiment("hmog", "model.k=8"), {"fid_768": 0.5, "knn_real_hmog2019": 0.7}, few)]
    (found,) = beside(table(*jobs))
    told = found.rows[1]["comparable"]
    assert told.startswith("not comparable: ")
    for reason in ("n_fake: 500 here, 10,000 there", "ema: true here, false there"):
        assert reason in told
    assert "fid_hmog2019, knn_fake_hmog2019: not measured" in told
    assert "fid_768 0.5" in found.rows[1]["also measured"]


def test_what_nobody_has_published_comes_last_and_says_what_it_is(table):
    jobs = [(["data=fashion_mnist", "model=hmog", "model/gate=softmax"], METRICS, ALIKE),
            (experiment("hmog", "model.k=8"), METRICS, ALIKE)]  # fmt: skip
    (found,) = beside(table(*jobs))
    assert [row["of"] for row in found.rows] == ["hmog2019", "ours", "ours"]
    assert found.rows[-1]["comparable"] == (
        "not comparable: nothing is published of K = 8 with SoftmaxGate, LinearExperts, ScoreHead"
    )


def test_sets_of_which_nothing_is_published_are_left_out(table):
    assert list(beside(table((["data=digits"], {"fid": 1.0}, {})))) == []


def test_a_verdict_needs_every_metric_measured_alike():
    run = composed(*experiment("mog", "model.k=4")).model_dump()
    theirs = [figure for figure in figures("fashion_mnist") if matches(figure, run["model"])]
    shown = dict.fromkeys(METRICS, "1")
    assert len(theirs) == 3 and verdict(theirs, ALIKE, run, shown) == "measured alike"
    assert verdict(theirs, {**ALIKE, "neighbours": 3}, run, shown) == (
        "not comparable: knn_real_hmog2019, knn_fake_hmog2019: neighbours: 3 here, 5 there"
    )
