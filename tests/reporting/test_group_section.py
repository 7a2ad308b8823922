"""The groups of the page, from results written by hand."""

import json

import pytest
from matplotlib.figure import Figure
from PIL import Image

from mixgan_cli.reporting.group_section import group_section, group_title, split_by_protocol
from mixgan_cli.reporting.sweep_table import SweepTable
from mixgan_cli.sweeps.sweep import Job


@pytest.fixture
def job(tmp_path):
    """Make a job of a data set, done unless there are no metrics."""
    numbers = iter(range(100))

    def make(data, k, metrics=None, seed=0, n_fake=1000, **protocol):
        number = next(numbers)
        overrides = (f"data={data}", f"model.k={k}", f"seed={seed}")
        if metrics is None:
            return Job(overrides, number)
        run = tmp_path / f"run {number}"
        run.mkdir()
        (run / "config.yaml").write_text(f"{{data: {{name: {data}}}}}")
        if not protocol:
            protocol = {"reals": {"train": {"checksum": data}}}
        results = {"metrics": metrics, "protocol": {"n_fake": n_fake, "name": "quick", **protocol}, "unavailable": {}}
        (run / "results.json").write_text(json.dumps(results))
        return Job(overrides, number, "done", 0, run_dir=str(run))

    return make


def test_groups_have_one_data_set_and_one_protocol(job):
    jobs = [
        job("ring", 2), job("digits", 2, {"fid": 1.0}), job("ring", 2, {"fid": 1.0}), job("digits", 4, {"fid": 2.0}),
        job("digits", 2, {"fid": 3.0}, n_fake=50), job("digits", 8), job("celeba", 2),
        job("mnist", 2, {}, reals_of=None), job("cifar10", 2, {}, reals_of=None),
    ]  # fmt: skip
    groups = split_by_protocol(SweepTable(jobs))
    assert [[entry.job.number for entry in group.entries] for group in groups] == [
        [1, 3, 5],
        [2, 0],
        [4],
        [7],
        [8],
        [6],
    ]
    assert all(len(group.protocols) <= 1 for group in groups)
    titles = [group_title(group) for group in groups]
    assert titles[0] == "digits, protocol quick (1,000 generated samples)" and titles[-1] == "celeba"


def test_tables_have_links_and_no_constant_columns(job, tmp_path):
    jobs = [job("digits", k, {"fid": float(k + seed), "kid": 0.5}, seed) for k in (2, 4) for seed in (10, 9)]
    section = group_section(SweepTable([*jobs, job("digits", 8)]), 1, {}, tmp_path / "report", tmp_path / "figures")
    configurations, best, all_runs = section.tables
    assert configurations.columns == ["model.k", "done", "missing", "fid", "kid", "hash", "runs"]
    assert configurations.constants == {"failed": 0}
    assert [[(link.text, link.href) for link in row["runs"]] for row in configurations.rows] == [
        [("seed 9", "../run%201"), ("seed 10", "../run%200")],
        [("seed 9", "../run%203"), ("seed 10", "../run%202")],
        [],
    ]
    assert best.rows[0]["run"].text == "model.k=2, seed=9" and best.constants == {"kid": 0.5}
    assert all_runs.folded and [str(row["run"]) for row in all_runs.rows[:2]] == ["run 0", "run 1"]


def test_samples_of_a_sweep_are_in_one_figure(job, tmp_path, monkeypatch):
    """Grids are cropped to the upper left quarter, plots of points and damaged files are not."""
    monkeypatch.setattr("mixgan_cli.reporting.group_section.MAX_SAMPLES", 3)
    drawn = {}
    monkeypatch.setattr(
        "mixgan_cli.reporting.group_section.draw_samples", lambda pictures: drawn.update(pictures) or Figure()
    )
    jobs = [job("digits", k, {"fid": 1.0}, seed) for k in (2, 4, 8, 16) for seed in (0, 1)]
    for number, each in enumerate(jobs):
        samples = each.run.samples
        samples.mkdir()
        for nimg in (100, 200):
            Image.new("RGB", (20, 12), (number, nimg, 0)).save(samples / f"{nimg:09d}.png")
        if number == 0:
            (samples / "real.png").touch()
        if number == 4:
            (samples / f"{nimg:09d}.png").write_bytes(b"\x89PNG damaged")
    section = group_section(SweepTable(jobs), 1, {}, tmp_path / "report", tmp_path / "figures")
    assert {name: picture.shape for name, picture in drawn.items()} == {
        "model.k=2": (11, 11, 3), "model.k=4": (12, 20, 3),
    }  # fmt: skip
    assert drawn["model.k=2"][0, 0].tolist() == [0, 200, 0]
    (picture,) = section.pictures
    assert picture.title == "Samples" and picture.caption.endswith(" 2 of 4 configurations.") and picture.dark
