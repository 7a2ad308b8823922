"""Which runs a report is about, from folders written by hand."""

import json
import shutil

import pytest
import yaml

from mixgan_cli.errors import RunError
from mixgan_cli.evaluation.protocol import differences
from mixgan_cli.reporting.gathering import gather
from mixgan_cli.reporting.sweep import Table
from tests.conftest import composed


@pytest.fixture
def run(tmp_path):
    """Write a finished run's folder of these overrides, with these metrics."""

    def make(name, *overrides, metrics=None, protocol=None, **others):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = composed(*overrides).model_dump(mode="json")
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, **others}))
        results = {
            "run": {"nimg": 64},
            "metrics": metrics or {},
            "unavailable": {},
            "protocol": protocol or {"n_fake": 8},
        }
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "DONE").touch()
        return folder

    return make


def values(paths):
    jobs, remarks = gather(paths)
    assert not remarks
    return [job.values for job in jobs]


def test_what_differs_is_told_and_nothing_else(run):
    one = run("a", "model=mog", "model.k=4", "seed=1")
    two = run("b", "model=mog", "model.k=8", "seed=1", "evaluation.n_fake=9")
    assert values([one, two]) == [{"data": "digits", "model": "mog", "model.k": k} for k in ("4", "8")]


def test_runs_that_differ_in_several_keys_tell_them_all(run):
    one = run("a", "objective.optimizer.generator.lr=0.1", "training.batch=8")
    two = run("b", "data.size=8")
    assert [set(of) for of in values([one, two])] == [
        {"data", "model", "data.size", "objective.optimizer.generator.lr", "training.batch"}
    ] * 2


def test_other_places_of_the_data_and_splits_by_the_seed_are_no_difference(run):
    runs = [
        run(f"{seed}", "data=folder", f"data.root=place{seed}", f"seed={seed}", f"data.split_seed={seed}")
        for seed in (1, 2)
    ]
    assert values(runs) == [{"data": "folder", "model": "hmog", "seed": f"{seed}"} for seed in (1, 2)]


def test_seeds_with_splits_of_their_own_are_averaged(run):
    """As the HMoG author's on CelebA: other images are held out, so other checksums, and still one protocol."""
    for seed, fid in ((1, 10.0), (2, 14.0)):
        reals = {
            "split": "held_out",
            "train": {"n": 9, "checksum": f"{seed}"},
            "held_out": {"n": 1, "checksum": f"{seed}"},
        }
        run(f"runs/{seed}", "data=folder", "data.root=x", f"seed={seed}", f"data.split_seed={seed}",
            metrics={"fid": fid}, protocol={"n_fake": 8, "reals": reals})  # fmt: skip
    jobs, _ = gather([run("other", "model=mog")])
    jobs, _ = gather([jobs[0].run.path.parent / "runs"])
    table = Table(jobs, differences)
    (row,) = table.by_configuration()
    assert (row["fid"], row["fid_n"]) == (12.0, 2) and row["fid_sd"] == pytest.approx(8**0.5)
    assert "Which images are held out follows the seed." in table.remarks()


def test_each_run_counts_once(run, tmp_path):
    one = run("runs/one", "seed=1", metrics={"fid": 1.0})
    run("runs/two", "seed=2", metrics={"fid": 3.0})
    jobs, _ = gather([one, tmp_path / "runs", one])
    assert sorted(job.run.path.name for job in jobs) == ["one", "two"]


def test_a_run_begun_anew_is_no_other_seed(run, tmp_path):
    for name, seed, fid in (("old", 1, 9.0), ("new", 1, 1.0), ("other", 2, 3.0)):
        run(f"runs/{name}", f"seed={seed}", metrics={"fid": fid})
    table = Table(gather([tmp_path / "runs"])[0], differences)
    (row,) = table.by_configuration()
    assert (row["fid"], row["fid_n"]) == (2.0, 2)
    assert "1 runs are left out of the means: a newer one has their configuration and seed." in table.remarks()


def test_a_run_s_own_deviation_is_not_that_of_seeds(run, tmp_path):
    for seed, fid in ((1, 10.0), (2, 20.0), (3, 30.0)):
        run(f"runs/{seed}", f"seed={seed}", metrics={"fid": fid, "fid_sd": 0.1})
    (row,) = Table(gather([tmp_path / "runs"])[0], differences).by_configuration()
    assert (row["fid"], row["fid_sd"]) == (20.0, 10.0)


def test_a_sweep_that_was_moved_finds_its_runs(run, tmp_path):
    folder = run("here/digits-hmog-1-0")
    jobs = tmp_path / "here" / "sweeps" / "mine" / "jobs"
    jobs.mkdir(parents=True)
    job = {"overrides": ["model.k=8"], "number": 0, "status": "done", "exit_code": 0, "error": None, "gpus": [],
           "run_dir": "/elsewhere/digits-hmog-1-0"}  # fmt: skip
    (jobs / "a.json").write_text(json.dumps(job))
    (found,), _ = gather([jobs.parent])
    assert found.run.path == folder and found.state == "done"
    shutil.rmtree(folder)
    (found,), _ = gather([jobs.parent])
    assert found.state == "missing"
    (jobs / "a.json").write_text("{")
    with pytest.raises(RunError, match="jobs: not what mixgan writes"):
        gather([jobs.parent])


def test_of_several_those_that_cannot_be_read_are_left_out(run, tmp_path):
    run("runs/good")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "config.yaml").write_text("a: b")
    jobs, remarks = gather([tmp_path / "runs"])
    assert [job.run.path.name for job in jobs] == ["good"] and len(remarks) == 1 and "bad" in remarks[0]
    with pytest.raises(RunError, match="not what mixgan writes"):
        gather([tmp_path / "runs" / "bad"])
