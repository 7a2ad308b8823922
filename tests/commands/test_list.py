"""`mixgan list`: runs with their state, what differs, and their metrics."""

import shutil

import pytest

from mixgan_cli.runtime.io import file_lock


@pytest.fixture
def runs(mixgan, finished):
    """A finished run, an interrupted one of other beta, and one that failed."""
    done, interrupted, failed = finished(), finished("model.k=4"), finished("seed=1")
    for run in (interrupted, failed):
        (run / "DONE").unlink()
        (run / "results.json").unlink()
    (failed / "FAILED").write_text("ValueError: x")
    return done, interrupted, failed


def rows(outcome):
    assert outcome.code == 0, outcome.err
    return {row["run"]: row for row in outcome.json["runs"]}


def test_list_shows_state_length_and_differences(mixgan, runs, monkeypatch):
    done, interrupted, failed = runs
    found = rows(mixgan("list", "outputs", "--json"))
    assert [found[str(run)]["state"] for run in runs] == ["finished", "interrupted", "failed"]
    assert {row["images"] for row in found.values()} == {120}
    assert [found[str(run)]["model.k"] for run in runs] == [8, 4, 8]
    assert all(row["hash"] in run for run, row in found.items())
    assert found[str(done)]["hash"] == found[str(failed)]["hash"] != found[str(interrupted)]["hash"]  # two seeds
    assert found[str(done)]["ms_ssim"] > 0 and found[str(interrupted)]["ms_ssim"] is None
    monkeypatch.setenv("COLUMNS", "300")
    text = mixgan("list")
    header, *lines = text.err.splitlines()
    assert header.split()[:6] == ["run", "state", "images", "model.k", "seed", "hash"] and len(lines) == 3
    assert rows(text) == found  # a program reads stdout


def test_list_shows_names_of_the_user(mixgan, finished):
    named, plain = finished("name=my_run"), finished()
    found = rows(mixgan("list", "--json"))
    assert found[str(named)]["name"] == "my_run" and found[str(plain)]["name"] is None
    assert named.name == plain.name.replace("digits-hmog", "my_run")


def test_list_knows_a_run_that_is_training(mixgan, runs):
    with file_lock(runs[1] / ".lock", "test"):
        assert rows(mixgan("list", "json=true"))[str(runs[1])]["state"] == "training"


def test_list_is_sorted_by_any_column(mixgan, runs):
    by_k = [row["model.k"] for row in rows(mixgan("list", "--json", "sort=model.k")).values()]
    assert by_k == [4, 8, 8]
    falling = [row["model.k"] for row in rows(mixgan("list", "--json", "sort=model.k", "descending=true")).values()]
    assert falling == [8, 8, 4]
    outcome = mixgan("list", "sort=model.q")
    assert outcome.code == 2 and "sort=model.q: no such column. Did you mean 'model.k'" in outcome.err


def test_list_shows_the_column_that_it_is_sorted_by(mixgan, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "75")
    header, *lines = mixgan("list", "sort=knn_fake", "descending=true").err.splitlines()
    assert header.split()[:3] == ["run", "state", "knn_fake"] and lines[0].split()[1] == "finished"
    assert [line.split()[2] for line in lines[1:3]] == ["–", "–"]  # what is missing comes last


def test_list_shows_the_choice_instead_of_the_keys_that_it_sets(mixgan, finished):
    one, other = finished("model=mog", "objective=hinge"), finished("model=mog", "objective=lsgan")
    found = rows(mixgan("list", "--json"))
    assert [found[str(run)]["objective"] for run in (one, other)] == ["hinge", "lsgan"]
    assert not [key for row in found.values() for key in row if "." in key]


def test_list_names_runs_that_cannot_be_read(mixgan, runs):
    (runs[0] / "results.json").write_text("{")
    outcome = mixgan("list", "--json")
    assert str(runs[0]) not in rows(outcome) and f"left out: {runs[0]}/results.json" in outcome.err
    shutil.rmtree("outputs")
    assert mixgan("list").code == 2
