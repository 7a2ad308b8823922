"""Add a metric from a package outside the repository: one class and one YAML file."""

import json
import re
from pathlib import Path

import pytest

from mixgan_cli.evaluation.metrics import registry
from tests.conftest import TINY
from tests.walks.page import run_example, write_example


@pytest.fixture
def package(monkeypatch, tmp_path):
    write_example("A metric", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "METRICS", list(registry.METRICS))


def test_metric_example_runs(mixgan, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "METRICS", list(registry.METRICS))
    outcome = run_example("A metric", mixgan, tmp_path, monkeypatch)
    assert outcome.json["metrics"]["sharpness"] > 0 and outcome.json["metrics"]["sharpness_real"] > 0


@pytest.mark.integ
def test_metric_of_another_package(mixgan, package, monkeypatch):
    known = list(registry.METRICS)
    settings = (
        "--config-dir",
        "my_conf",
        "evaluation=sharp",
        *TINY,
        "training.evaluate_nimg=48",
        "evaluation.metrics=[mixture,mine.metrics.Sharpness]",
    )
    outcome = mixgan("train", "-m", *settings, "model.k=2,4", "sweep.name=sharp")
    assert outcome.code == 0, outcome.err
    results = [json.loads(path.read_text()) for path in Path("outputs").glob("digits*/results.json")]
    assert len(results) == 2 and {each["run"]["best"]["metric"] for each in results} == {"sharpness"}
    metrics = [each["metrics"] for each in results]
    best = min(metrics, key=lambda each: abs(each["sharpness"] - each["sharpness_real"]))

    sweep = outcome.json["sweep_dir"]
    for packages, is_known in (("[mine]", True), ("[]", False)):
        monkeypatch.setattr(registry, "METRICS", list(known))  # as in a process of its own
        outcome = mixgan("report", sweep, f"trusted={packages}")
        assert outcome.code == 0, outcome.err
        page = Path(outcome.json["page"]).read_text()
        table = (Path(outcome.json["tables"]) / "configurations.md").read_text().splitlines()[0]
        assert "| sharpness " in table
        shown = re.search(
            r"Best runs by sharpness .*?<tbody>\s*<tr><td><a[^>]*>[^<]*</a></td>\s*<td>([^<]*)</td>", page, re.DOTALL
        )
        assert (shown is not None) == ("Mean difference of neighbouring pixels" in page) == is_known
        assert ("mine.metrics.Sharpness: its values are shown without" in page) == (not is_known)
        assert ("sharpness_real" in table) == (not is_known)
        if shown:
            assert float(shown[1]) == pytest.approx(best["sharpness"], rel=1e-3)


def test_unknown_metric_is_refused_before_training(mixgan, package):
    for name, reason in {
        "mine.metrics.Sharpnes": "cannot be imported",
        "mine.metrics.sharpness": "cannot be imported",
        "pathlib.Path": "is not a subclass of mixgan_cli.evaluation.metrics.Metric",
        "sharpness": "there is no such metric",
    }.items():
        outcome = mixgan("train", *TINY, f"evaluation.metrics=[{name}]")
        assert outcome.code == 2 and f"evaluation.metrics={name}: " in outcome.err and reason in outcome.err
    assert not Path("outputs").exists()
