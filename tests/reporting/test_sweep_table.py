"""The table of a sweep, from results written by hand."""

import csv
import json
import statistics

import pytest

from mixgan_cli.reporting.sweep_table import SweepTable
from mixgan_cli.sweeps.sweep import Job

PROTOCOL = {"n_fake": 16, "n_real": 16, "reals": {"checksum": "a"}}


@pytest.fixture
def job(tmp_path):
    """Make a job that is done, with these metrics, or one that is not."""

    def make(number, k, seed, metrics=None, protocol=PROTOCOL, **others):
        overrides = ("data=digits", f"model.k={k}", f"seed={seed}")
        if metrics is None:
            return Job(overrides, number, **others)
        run = tmp_path / str(number)
        run.mkdir()
        (run / "results.json").write_text(
            json.dumps({"metrics": metrics, "protocol": {**protocol, "nimg": number}, "unavailable": {}})
        )
        return Job(overrides, number, "done", 0, run_dir=str(run))

    return make


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_mean_and_deviation_are_over_seeds(job, tmp_path):
    values = [10.0, 12.5, 18.0]
    jobs = [job(seed, 2, seed, {"fid": value, "usage": [0.5, 0.5]}) for seed, value in enumerate(values)]
    table = SweepTable([*jobs, job(3, 4, 0, {"fid": 7.0})])
    two, four = table.by_configuration()
    assert two["fid"] == pytest.approx(statistics.fmean(values)) and two["fid_n"] == 3
    assert two["fid_sd"] == pytest.approx((sum((v - 13.5) ** 2 for v in values) / 2) ** 0.5)  # n - 1
    assert (four["fid"], four["fid_sd"], four["fid_n"]) == (7.0, None, 1)
    assert "usage" not in two and "data" not in two and "seed" not in two
    assert table.text().splitlines() == [
        "model.k  done  failed  missing  fid",
        "2        3     0       0        13.5 ± 4.1",
        "4        1     0       0        7",
    ]
    assert table.write(tmp_path) == tmp_path / "table.csv"
    assert read(tmp_path / "table.csv")[1] == {
        "model.k": "4", "hash": "", "done": "1", "failed": "0", "missing": "0", "protocol": "1",
        "fid": "7.0", "fid_sd": "", "fid_n": "1",
    }  # fmt: skip
    assert [row["fid"] for row in read(tmp_path / "jobs.csv")] == ["10.0", "12.5", "18.0", "7.0"]


def test_failed_and_missing_jobs_are_counted_and_listed(job):
    error = "Traceback (most recent call last):\n  …\nValueError: too small\n"
    jobs = [
        job(0, 2, 0, {"fid": 1.0}),
        job(1, 2, 1, status="failed", exit_code=1, error=error),
        job(2, 2, 2),
        job(3, 4, 0, status="begun"),
        job(4, 4, 1, status="done", run_dir="/deleted"),
    ]
    table = SweepTable(jobs)
    assert table.counts == {"done": 1, "failed": 1, "missing": 3}
    two, four = table.by_configuration()
    assert (two["done"], two["failed"], two["missing"], two["fid"]) == (1, 1, 1, 1.0)
    assert (four["done"], four["failed"], four["missing"], four["fid"]) == (0, 0, 2, None)
    assert table.text().splitlines()[2:] == [
        "4        0     0       2        –",
        "model.k=2 seed=1 failed: ValueError: too small",
    ]


def test_different_protocols_are_not_averaged(job):
    other = {**PROTOCOL, "n_fake": 50}
    jobs = [
        job(0, 2, 0, {"fid": 1.0}),
        job(1, 2, 1, {"fid": 3.0}, other),
        job(2, 2, 2, {"fid": 2.0}),
        job(3, 2, 3),
        job(4, 4, 0, {"fid": 9.0}, other),
    ]
    table = SweepTable(jobs)
    rows = [[row[key] for key in ("model.k", "protocol", "done", "missing", "fid")] for row in table.by_configuration()]
    assert rows == [["2", 1, 2, 1, 1.5], ["2", 2, 1, 0, 3.0], ["4", 2, 1, 0, 9.0]]
    lines = table.text().splitlines()
    assert lines[0].split() == ["model.k", "done", "failed", "missing", "protocol", "fid"]
    assert lines[-1] == "protocols 1 and 2 are not comparable: n_fake: 16 and 50"


def test_a_metric_missing_for_some_seeds_shows_its_n(job):
    table = SweepTable([job(0, 2, 0, {"fid": 1.0, "kid": 5.0}), job(1, 2, 1, {"kid": 5.0})])
    (row,) = table.by_configuration()
    assert (row["fid"], row["fid_n"], row["fid_sd"], row["kid_sd"]) == (1.0, 1, None, 0.0)
    assert table.text().splitlines()[1].split("  ")[-2:] == ["1 (n=1)", "5 ± 0"]


def test_companions_of_a_metric_are_only_in_the_file(job, tmp_path):
    table = SweepTable([job(0, 2, 0, {"kid": 1.0, "kid_std": 0.5})])
    assert "kid_std" not in table.text() and "kid_std" in read(table.write(tmp_path))[0]


def test_columns_that_do_not_fit_are_counted(job, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    metrics = {f"metric_{number}": float(number) for number in range(4)}
    lines = SweepTable([job(0, 2, 0, metrics), job(1, 4, 0, metrics)]).text().splitlines()
    assert max(map(len, lines)) <= 40 and lines[-1] == "(4 more columns in table.csv)"


@pytest.mark.parametrize(
    ("values", "text"),
    [((0.12, 0.34), "0.23 ± 0.16"), ((1234.0, 1250.0), "1242 ± 11"), ((1e-5, 3e-5), "0.000020 ± 0.000014"),
     ((3.0, 3.0), "3 ± 0")],
)  # fmt: skip
def test_means_have_the_digits_of_their_deviation(job, values, text):
    table = SweepTable([job(seed, 2, seed, {"fid": value}) for seed, value in enumerate(values)])
    assert table.text().splitlines()[1].endswith(f"  {text}")
