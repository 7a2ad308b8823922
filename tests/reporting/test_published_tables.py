"""Tables of published values and ours: which rows are in them, and when they are comparable."""

import json

import pytest
import yaml

from mixgan_cli.reporting.published import matches, published_tables, published_values, verdict
from mixgan_cli.reporting.sweep_table import SweepTable
from mixgan_cli.sweeps.sweep import Job
from tests.conftest import composed

METRICS = {"fid_hmog2019": 20.0, "knn_real_hmog2019": 0.7, "knn_fake_hmog2019": 0.8}
PROTOCOL = {
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
        return SweepTable(made)

    return make


def experiment(model, *more):
    return [f"experiment=hmog2019_{model}", "data=fashion_mnist", *more]


def test_our_rows_follow_published_rows_of_the_same_model(table):
    jobs = [(experiment(model, f"model.k={k}", f"seed={seed}"), METRICS, PROTOCOL)
            for model in ("hmog", "mog") for k in (4, 8) for seed in (1, 2)]  # fmt: skip
    (found,) = published_tables(table(*jobs))
    assert found.data == "fashion_mnist" and len(found.published) == 29
    assert [(row["source"], row["system"], row["K"]) for row in found.rows] == [
        ("hmog2019", "HME-L-2", 4), ("ours", "hmog", 4), ("hmog2019", "HME-L-3", 8), ("ours", "hmog", 8),
        ("hmog2019", "ME-L-4", 4), ("ours", "mog", 4), ("hmog2019", "ME-L-8", 8), ("ours", "mog", 8),
    ]  # fmt: skip
    theirs, ours = found.rows[2:4]
    assert theirs["fid_hmog2019"] == "19.64 ± 0.89" and theirs["n"] == "10,000"
    assert ours["fid_hmog2019"] == "20 ± 0" and ours["comparable"] == "same protocol" and ours["± over"] == "seed 1, 2"


def test_every_obstacle_is_stated(table):
    few = {**PROTOCOL, "n_fake": 500, "ema": True}
    jobs = [(experiment("hmog", "model.k=8"), {"fid_768": 0.5, "knn_real_hmog2019": 0.7}, few)]
    (found,) = published_tables(table(*jobs))
    verdict_text = found.rows[1]["comparable"]
    assert verdict_text.startswith("not comparable: ")
    for reason in ("n_fake: 500 here, 10,000 published", "ema: true here, false published"):
        assert reason in verdict_text
    assert "fid_hmog2019, knn_fake_hmog2019: not measured" in verdict_text
    assert "fid_768 0.5" in found.rows[1]["also measured"]


def test_models_without_published_values_come_last(table):
    jobs = [(["data=fashion_mnist", "model=hmog", "model/gate=softmax"], METRICS, PROTOCOL),
            (experiment("hmog", "model.k=8"), METRICS, PROTOCOL)]  # fmt: skip
    (found,) = published_tables(table(*jobs))
    assert [row["source"] for row in found.rows] == ["hmog2019", "ours", "ours"]
    assert found.rows[-1]["comparable"] == (
        "not comparable: there are no published values for K = 8 with SoftmaxGate, LinearExperts, ScoreHead"
    )


def test_data_sets_without_published_values_are_left_out(table):
    assert list(published_tables(table((["data=digits"], {"fid": 1.0}, {})))) == []


def test_same_protocol_needs_every_metric():
    run = composed(*experiment("mog", "model.k=4")).model_dump()
    theirs = [value for value in published_values("fashion_mnist") if matches(value, run["model"])]
    shown = dict.fromkeys(METRICS, "1")
    assert len(theirs) == 3 and verdict(theirs, PROTOCOL, run, shown) == "same protocol"
    assert verdict(theirs, {**PROTOCOL, "neighbours": 3}, run, shown) == (
        "not comparable: knn_real_hmog2019, knn_fake_hmog2019: neighbours: 3 here, 5 published"
    )
