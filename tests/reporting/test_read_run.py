"""Finding runs and reading their logs, from folders written by hand."""

import json
import shutil

import pytest
import yaml

from mixgan_cli.config.identity import configuration_hash
from mixgan_cli.errors import RunError
from mixgan_cli.reporting.read_run import find_runs, read_curves
from mixgan_cli.reporting.sweep_table import SweepTable
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
    jobs, remarks = find_runs(paths)
    assert not remarks
    return [job.values for job in jobs]


def test_runs_are_described_by_the_keys_that_differ(run):
    one = run("a", "model=mog", "model.k=4", "seed=1")
    two = run("b", "model=mog", "model.k=8", "seed=1", "evaluation.n_fake=9")
    assert values([one, two]) == [{"data": "digits", "model": "mog", "model.k": k} for k in ("4", "8")]


def test_all_differing_keys_are_in_the_description(run):
    one = run("a", "objective.optimizer.generator.lr=0.1", "training.batch=8")
    two = run("b", "data.size=8")
    assert [set(of) for of in values([one, two])] == [
        {"data", "model", "data.size", "objective.optimizer.generator.lr", "training.batch"}
    ] * 2


def test_choices_stand_for_the_keys_that_they_set(run):
    hinge = {"choices": {"objective": "hinge", "objective/optimizer": "sngan", "model/gate": "softmax"}}
    own = {"choices": {"objective": "wgan_gp", "objective/optimizer": "wgan_gp", "model/gate": "softmax"}}
    slow = "objective.optimizer.generator.lr=1e-6"
    runs = [
        run("a", "model=mog", "objective=hinge", **hinge),
        run("b", "model=mog", "objective=hinge", slow, **hinge),
        run("c", "model=mog", "objective=wgan_gp", **own),
        run("d", "model=mog", "objective=wgan_gp", "seed=1"),  # the same keys, given one by one
    ]
    rate, shared = "objective.optimizer.generator.lr", {"data": "digits", "model": "mog"}
    assert values(runs) == [
        {**shared, "seed": "0", "objective": "hinge", rate: "0.0002"},
        {**shared, "seed": "0", "objective": "hinge", rate: "1e-06"},
        {**shared, "seed": "0", "objective": "wgan_gp", rate: "0.0001"},
        {**shared, "seed": "1", "objective": "wgan_gp", rate: "0.0001"},
    ]


def test_keys_that_a_run_does_not_have_are_missing(run):
    one = run("a", "data=folder", "data.root=x", "data.skip_corrupt=true")
    two, three = run("b", "data=folder", "data.root=x"), run("c")
    assert [of.get("data.skip_corrupt") for of in values([one, two, three])] == ["true", "false", None]


def test_data_root_and_seeded_split_are_no_difference(run):
    runs = [
        run(f"{seed}", "data=folder", f"data.root=place{seed}/photos", f"seed={seed}", f"data.split_seed={seed}")
        for seed in (1, 2)
    ]
    assert values(runs) == [{"data": "photos", "model": "hmog", "seed": f"{seed}"} for seed in (1, 2)]


def test_seeds_of_a_renamed_data_set_are_averaged(run, tmp_path):
    """The content decides which set it is."""
    for seed, root, content in ((0, "photos", "a"), (1, "pictures", "a"), (0, "other", "b")):
        reals = {"held_out": {"n": 1, "checksum": content}}
        run(f"runs/{root}", "data=folder", f"data.root={root}", f"seed={seed}", metrics={"fid": 1.0},
            protocol={"reals": reals})  # fmt: skip
    table = SweepTable(find_runs([tmp_path / "runs"])[0])
    assert [(row["data"], row["fid_n"]) for row in table.by_configuration()] == [("other", 1), ("photos", 2)]


def test_seeds_with_their_own_split_are_averaged(run):
    """As in HMoG's released code on CelebA: each seed holds out other images, but the protocol is the same."""
    for seed, fid in ((1, 10.0), (2, 14.0)):
        reals = {
            "split": "held_out",
            "train": {"n": 9, "checksum": f"{seed}"},
            "held_out": {"n": 1, "checksum": f"{seed}"},
        }
        run(f"runs/{seed}", "data=folder", "data.root=x", f"seed={seed}", f"data.split_seed={seed}",
            metrics={"fid": fid}, protocol={"n_fake": 8, "reals": reals})  # fmt: skip
    jobs, _ = find_runs([run("other", "model=mog")])
    jobs, _ = find_runs([jobs[0].run.path.parent / "runs"])
    table = SweepTable(jobs)
    (row,) = table.by_configuration()
    assert (row["fid"], row["fid_n"]) == (12.0, 2) and row["fid_sd"] == pytest.approx(8**0.5)
    assert "The seed determines which images are held out." in table.remarks()


def test_seeds_are_averaged_if_one_equals_that_of_the_split(run):
    """All runs hold out the same images: seed 0 is not another protocol because the split has seed 0, too."""
    reals = {"split": "held_out", "held_out": {"n": 1, "checksum": "a"}}
    for seed, fid in ((0, 10.0), (1, 14.0)):
        run(f"runs/{seed}", f"seed={seed}", "data.split_seed=0", metrics={"fid": fid}, protocol={"reals": reals})
    jobs, _ = find_runs([run("other", "model=mog")])
    table = SweepTable(find_runs([jobs[0].run.path.parent / "runs"])[0])
    (row,) = table.by_configuration()
    assert row["fid_n"] == 2 and table.keys == ["seed"] and not table.remarks()


def test_rows_of_a_table_have_the_hash_that_seeds_share(run, tmp_path):
    for k, seed in ((2, 0), (2, 1), (4, 0)):
        run(f"runs/{k}-{seed}", f"model.k={k}", f"seed={seed}", metrics={"fid": 1.0})
    table = SweepTable(find_runs([tmp_path / "runs"])[0])
    hashes = [configuration_hash(composed(f"model.k={k}").model_dump(mode="json")) for k in (2, 4)]
    assert [row["hash"] for row in table.by_configuration()] == hashes
    assert [row["hash"] for row in table.by_job()] == [hashes[0], *hashes]


def test_names_of_the_user_stand_before_the_keys_that_differ(run, tmp_path):
    for k, name in ((2, "mine"), (4, "null")):
        run(f"runs/{k}", f"model.k={k}", f"name={name}", metrics={"fid": 1.0})
    table = SweepTable(find_runs([tmp_path / "runs"])[0])
    assert [row["name"] for row in table.by_job()] == ["mine", None]
    assert [table.name_of(entry) for entry in table.entries] == ["mine, model.k=2", "model.k=4"]


def test_each_run_counts_once(run, tmp_path):
    one = run("runs/one", "seed=1", metrics={"fid": 1.0})
    run("runs/two", "seed=2", metrics={"fid": 3.0})
    jobs, _ = find_runs([one, tmp_path / "runs", one])
    assert sorted(job.run.path.name for job in jobs) == ["one", "two"]


def test_a_repeated_run_replaces_the_older_one(run, tmp_path):
    for name, seed, fid in (("old", 1, 9.0), ("new", 1, 1.0), ("other", 2, 3.0)):
        run(f"runs/{name}", f"seed={seed}", metrics={"fid": fid})
    table = SweepTable(find_runs([tmp_path / "runs"])[0])
    (row,) = table.by_configuration()
    assert (row["fid"], row["fid_n"]) == (2.0, 2)
    assert "Runs left out of the means, because a newer run has the same configuration and seed: 1." in table.remarks()


def test_deviation_is_over_seeds_not_over_draws(run, tmp_path):
    for seed, fid in ((1, 10.0), (2, 20.0), (3, 30.0)):
        run(f"runs/{seed}", f"seed={seed}", metrics={"fid": fid, "fid_sd": 0.1})
    (row,) = SweepTable(find_runs([tmp_path / "runs"])[0]).by_configuration()
    assert (row["fid"], row["fid_sd"]) == (20.0, 10.0)


def test_a_moved_sweep_finds_its_runs(run, tmp_path):
    folder = run("here/digits-hmog-1-0")
    jobs = tmp_path / "here" / "sweeps" / "mine" / "jobs"
    jobs.mkdir(parents=True)
    job = {"overrides": ["model.k=8"], "number": 0, "status": "done", "exit_code": 0, "error": None, "gpus": [],
           "run_dir": "/elsewhere/digits-hmog-1-0"}  # fmt: skip
    (jobs / "a.json").write_text(json.dumps(job))
    (found,), _ = find_runs([jobs.parent])
    assert found.run.path == folder and found.state == "done"
    shutil.rmtree(folder)
    (found,), _ = find_runs([jobs.parent])
    assert found.state == "missing"


def test_run_of_a_job_that_is_a_link_to_itself_is_missing(tmp_path):
    loop, jobs = tmp_path / "loop", tmp_path / "sweep" / "jobs"
    loop.symlink_to(loop)
    jobs.mkdir(parents=True)
    job = {"overrides": [], "number": 0, "status": "done", "exit_code": 0, "error": None, "gpus": []}
    (jobs / "a.json").write_text(json.dumps(job | {"run_dir": str(loop)}))
    (found,), _ = find_runs([jobs.parent])
    assert found.state == "missing"


@pytest.mark.parametrize(
    "content",
    [
        *("{", "", "[]", '{"overrides": 3}', '{"overrides": [1], "number": 0}', "[" * 100_000),
        *('{"overrides": [], "number": 0, "error": {}}', '{"overrides": [], "number": 0, "status": "odd"}'),
        '{"a": ' + "[" * 100 + "]" * 100 + "}",
    ],
)
def test_damaged_record_of_a_job_is_named(tmp_path, content):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.json").write_text(content)
    with pytest.raises(RunError, match=r"a\.json: not what mixgan writes, or damaged .*Delete it"):
        find_runs([tmp_path])


def test_unreadable_runs_are_left_out_with_a_remark(run, tmp_path):
    run("runs/good")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "config.yaml").write_text("a: b")
    jobs, remarks = find_runs([tmp_path / "runs"])
    assert [job.run.path.name for job in jobs] == ["good"] and len(remarks) == 1 and "bad" in remarks[0]
    with pytest.raises(RunError, match="not what mixgan writes"):
        find_runs([tmp_path / "runs" / "bad"])


@pytest.fixture
def log(tmp_path):
    """Write a metrics.jsonl of these records, or of lines as they are, and return its path."""

    def write(*records):
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


def test_numbers_of_a_log_become_curves_and_lists_several(log, tmp_path):
    training = {"step": 1, "nimg": 10, "seconds": 1.0, "img_per_second": 9.0}
    path = log(
        {**training, "loss/generator": 2.0, "gate_usage": [0.25, 0.75]},
        {"step": 2, "nimg": 20, "seconds": 2.0, "loss/generator": 1.0, "fid": 3, "expert_class": [[0.5, 0.5]]},
        {"nimg": 20, "alarm": "usage", "message": "an expert is hardly used"},
        '{"nimg": 30, "loss/generator"',
        "[]",
    )
    assert read_curves(path) == {
        "loss/generator": [(10, 2.0), (20, 1.0)],
        "gate_usage/0": [(10, 0.25)],
        "gate_usage/1": [(10, 0.75)],
        "fid": [(20, 3.0)],
    }
    assert read_curves(tmp_path / "nowhere") == {}


def test_values_of_different_protocols_are_different_curves(log):
    path = log(
        {"nimg": 1, "jsd_experts": 0.5},
        {"nimg": 1, "protocol": "full_interim", "fid": 80, "jsd_experts": 0.1},
        {"nimg": 2, "protocol": "full_interim", "fid": 70},
        {"nimg": 2, "protocol": "full", "fid": 20, "kid": float("nan")},
    )
    assert read_curves(path) == {
        "jsd_experts": [(1, 0.5)],
        "jsd_experts (full_interim)": [(1, 0.1)],
        "fid": [(1, 80), (2, 70)],
        "fid (full)": [(2, 20)],
    }
