"""Sweeps one job after the other, in one process: what they tell and leave, repeated, stopped and killed."""

import csv
import json
import os
from pathlib import Path

import pytest

from mixgan_cli.commands import train
from tests.commands.test_train import same, weights
from tests.conftest import TINY


def told(outcome):
    return [json.loads(line) for line in outcome.out.splitlines()]


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    """Each file below, with when it was written and what is in it."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(folder).rglob("*") if path.is_file()}


def test_sweep_reports_the_state_of_each_job(mixgan):
    """Two seeds each of a K that works and one that does not."""
    outcome = mixgan("train", "-m", *TINY, "model.k=2,3", "seed=0,1")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    first, second, summary = told(outcome)
    assert summary == {
        "sweep_dir": summary["sweep_dir"],
        "jobs": {"done": 2, "failed": 2, "missing": 0},
        "table": f"{summary['sweep_dir']}/table.csv",
    }
    good, bad = rows(summary["table"])
    assert (good["model.k"], good["done"], good["failed"]) == ("2", "2", "0")
    assert (bad["model.k"], bad["done"], bad["failed"], bad["ms_ssim"]) == ("3", "0", "2", "")
    values = [first["metrics"]["ms_ssim"], second["metrics"]["ms_ssim"]]
    assert float(good["ms_ssim"]) == pytest.approx(sum(values) / 2)
    assert float(good["ms_ssim_sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    by_job = rows(f"{summary['sweep_dir']}/jobs.csv")
    assert [(row["status"], row["run_dir"]) for row in by_job] == [
        ("done", first["run_dir"]),
        ("done", second["run_dir"]),
        ("failed", ""),
        ("failed", ""),
    ]
    assert by_job[2]["exit_code"] == "2" and by_job[2]["error"].startswith("model.k=3: a complete binary tree")
    assert "model.k=3 seed=1 failed: model.k=3: a complete binary tree" in outcome.err
    assert " ± " in outcome.err and summary["table"] in outcome.err


def test_repeated_sweep_skips_finished_jobs_and_updates_records(mixgan, monkeypatch):
    def fail(settings, *others):
        if settings.seed == 1:
            raise RuntimeError("a bug")
        return whole(settings, *others)

    whole = train._train_and_evaluate
    with monkeypatch.context() as broken:
        broken.setattr(train, "_train_and_evaluate", fail)
        first = mixgan("train", "-m", *TINY, "seed=0,1")
    assert first.code == 1 and told(first)[-1]["jobs"] == {"done": 1, "failed": 1, "missing": 0}
    sweep_dir = Path(told(first)[-1]["sweep_dir"])
    (failed,) = [job for job in map(read, sweep_dir.glob("jobs/*.json")) if job["status"] == "failed"]
    assert failed["error"].startswith("Traceback") and "a bug" in failed["error"]
    assert (Path(failed["run_dir"]) / "FAILED").is_file()
    assert rows(sweep_dir / "jobs.csv")[1]["error"] == "RuntimeError: a bug"

    before = files(told(first)[0]["run_dir"])
    second = mixgan("train", "-m", *TINY, "seed=0,1")
    assert second.code == 0, second.err
    assert told(second)[:-1] == [told(first)[0], json.loads(second.out.splitlines()[1])]
    assert told(second)[-1] == {**told(first)[-1], "jobs": {"done": 2, "failed": 0, "missing": 0}}
    assert files(told(first)[0]["run_dir"]) == before
    assert len(list(sweep_dir.glob("jobs/*"))) == 2


def read(path):
    return json.loads(path.read_text())


def test_fail_fast_starts_no_further_job_and_can_continue(mixgan):
    words = ("train", "-m", *TINY, "model.k=3,2", "sweep.optimize=fid", "sweep.fail_fast=true")
    for _ in range(2):  # the file that stopped it does not stop the next try before it begins
        outcome = mixgan(*words)
        assert outcome.code == 2
        (summary,) = told(outcome)
        assert summary["jobs"] == {"done": 0, "failed": 1, "missing": 1}
    assert mixgan(*words[:-1]).json["jobs"] == {"done": 1, "failed": 1, "missing": 0}


def test_interrupted_sweep_reports_the_missing_jobs(mixgan, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train_and_evaluate", interrupt)
    outcome = mixgan("train", "-m", *TINY, "seed=0,1,2")
    assert outcome.code == 130 and outcome.json["jobs"] == {"done": 0, "failed": 0, "missing": 3}


def test_unwritable_table_is_reported(mixgan):
    folder = Path("sweep")
    (folder / "table.csv").mkdir(parents=True)
    outcome = mixgan("train", "-m", *TINY, "seed=0,1", "evaluation=none", f"hydra.sweep.dir={folder}")
    assert outcome.code == 2 and outcome.err.endswith("hydra.sweep.dir: sweep: cannot be written (Is a directory)\n")
    assert "Traceback" not in outcome.err and len(told(outcome)) == 2


@pytest.mark.parametrize("folder", ["/", ".", "fifo", "project"])
def test_sweep_needs_a_folder_of_its_own(mixgan, folder):
    os.mkfifo("fifo")
    Path("project").mkdir()
    Path("project/table.csv").write_text("mine")
    outcome = mixgan("train", "-m", *TINY, "seed=0,1", f"hydra.sweep.dir={folder}")
    assert outcome.code == 2 and f"hydra.sweep.dir={folder}: " in outcome.err and "Traceback" not in outcome.err
    assert Path("project/table.csv").read_text() == "mine" and Path("fifo").is_fifo()
    assert {path.name for path in Path().iterdir()} <= {"fifo", "project", "own-cache"}


def test_invalid_choice_ends_a_sweep_before_it_starts(mixgan):
    outcome = mixgan("train", "-m", *TINY, "model=mog,hmgo")
    assert outcome.code == 2 and not outcome.out and "Did you mean 'hmog'" in outcome.err
    assert not list(Path("outputs").glob("*-*"))


SEARCH = ("model=mggan", "model/head=classifier", "model.beta=tag(log, interval(0.01, 1))", "model.k=choice(2,3,4)")


@pytest.mark.integ
def test_search_optimizes_the_configured_metric(mixgan):
    """Three trials with Optuna; the next try, with a fourth, finds the same three done."""
    words = ("train", "-m", "search=optuna", *TINY, *SEARCH, "sweep.optimize=ms_ssim", "sweep.direction=maximize")
    outcome = mixgan(*words, "hydra.sweeper.n_trials=3")
    assert outcome.code == 0, outcome.err
    *jobs, summary = told(outcome)
    best = max(job["metrics"]["ms_ssim"] for job in jobs)
    assert f"best_value: {best}" in (Path(summary["sweep_dir"]) / "optimization_results.yaml").read_text()
    found = rows(summary["table"])
    assert len(found) == 3 == len({row["model.beta"] for row in found})
    assert all(0.01 <= float(row["model.beta"]) <= 1 and row["model.k"] in "234" for row in found)

    longer = mixgan(*words, "hydra.sweeper.n_trials=4")
    assert told(longer)[:3] == jobs and longer.json["jobs"] == {"done": 4, "failed": 0, "missing": 0}
    assert longer.err.count("this run is finished") == 3 and longer.json["sweep_dir"] == summary["sweep_dir"]


def test_search_for_a_missing_metric_is_reported(mixgan):
    outcome = mixgan("train", "-m", "search=optuna", *TINY, *SEARCH, "hydra.sweeper.n_trials=2")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert "sweep.optimize=fid: this run has no such metric. It has gate_entropy, jsd_experts, knn_fake" in outcome.err
    assert outcome.json["jobs"] == {"done": 0, "failed": 2, "missing": 0}


LONGER = [*TINY, "training.nimg=480", "training.checkpoint_nimg=80", "evaluation=none", "model.k=2,3,4,8"]


@pytest.mark.integ
def test_repeated_sweep_after_a_kill_runs_the_missing_jobs(mixgan, start):
    """SIGKILL in the third of four jobs, the second of which fails; against a sweep that was never stopped."""
    process = start("train", "-m", *LONGER)
    process.wait_for(lambda: "\n" in process.output())
    done = Path(json.loads(process.output().splitlines()[0])["run_dir"])

    def half():
        return {path.parents[1] for path in Path("outputs").glob("*/checkpoints/last.pt")} - {done}

    process.wait_for(half)
    process.kill()
    (interrupted,) = half()
    assert (done / "DONE").is_file() and not (interrupted / "DONE").exists()
    assert len(list(Path("outputs").glob("*-*"))) == 2
    before = files(done)

    repeated = mixgan("train", "-m", *LONGER)
    assert repeated.code == 2 and repeated.json["jobs"] == {"done": 3, "failed": 1, "missing": 0}
    assert files(done) == before and repeated.err.count("this run is finished") == 1
    assert repeated.err.count(f"{interrupted}: resumed at") == 1 == repeated.err.count(": started")
    whole = mixgan("train", "-m", *LONGER, "paths.outputs=whole")
    assert whole.json["jobs"] == repeated.json["jobs"]
    runs = sorted(path.name for path in Path("whole").glob("*-*"))
    assert len(runs) == 3 and interrupted.name in runs
    for name in runs:
        assert same(weights(f"whole/{name}"), weights(f"outputs/{name}"))
