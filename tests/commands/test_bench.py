import json
import math
import runpy
import sys

import pytest

from tests.conftest import TINY
from tests.processes import ROOT


@pytest.mark.integ
def test_bench_measures_what_train_runs(mixgan):
    settings = ["model=mog,mggan", "model.k=2", "objective.d_steps=3"]
    outcome = mixgan("bench", "-m", *TINY, *settings)
    assert outcome.code == 0, outcome.err
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert [row["model"] for row in rows] == ["mog", "mggan"]
    for row in rows:
        assert row["k"] == 2 and row["real"] == 8 and row["capture"] is False and row["precision"] == "float32"
        assert row["img_per_second"] == pytest.approx(3 * 8 / row["ms"] * 1e3)
        assert 0 < row["ceiling_share"] < 1 and row["floor_ms"] < row["ms"] and row["gflop"] > 0
        assert math.isclose(row["tflop_per_second"], row["gflop"] / row["ms"], rel_tol=1e-6)
    assert outcome.err.count("| model | K |") == 1 and outcome.err.count("| mggan | 2 | 8 |") == 1


@pytest.mark.integ
def test_bench_of_one_valid_and_one_invalid_configuration(mixgan, tmp_path):
    outcome = mixgan("bench", "data=ring", "model=gan", "hardware=cpu", "hardware.threads=1")
    assert outcome.code == 0 and outcome.json["data"] == [2], outcome.err
    assert not (tmp_path / "multirun.yaml").exists()
    outcome = mixgan("bench", *TINY, "hardware.capture=true")
    assert outcome.code == 2 and "hardware.capture=true" in outcome.err


def test_kernels_of_an_iteration_are_listed(monkeypatch, capsys):
    settings = [setting for setting in TINY if not setting.startswith("debug")]
    monkeypatch.setattr(sys, "argv", ["kernels.py", *settings, "--top", "3"])
    runpy.run_path(str(ROOT / "benchmarks" / "kernels.py"), run_name="__main__")
    title, *_, first, second, third = capsys.readouterr().out.strip().splitlines()
    assert "kernels per iteration" in title
    times = [float(row.split("|")[1]) for row in (first, second, third)]
    assert times == sorted(times, reverse=True) and times[-1] > 0
