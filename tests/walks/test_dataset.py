"""Add a data set from a package outside the repository: one class, and one YAML file for each set made of it."""

import csv
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.walks.page import write_example

SETS = {"squares": 2, "large-squares.v2": 5}


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package with the class, and two YAML files that name it."""
    write_example("A data set", tmp_path)
    yaml = tmp_path / "my_conf/data/squares.yaml"
    other = yaml.read_text().replace("name: squares", "name: large-squares.v2").replace("side: 2 ", "side: 5 ")
    yaml.with_name("large-squares.v2.yaml").write_text(other)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_data_set_of_another_package(mixgan, package, tmp_path):
    for name in SETS:
        outcome = mixgan("train", "--config-dir", "my_conf", f"data={name}", *TINY)
        assert outcome.code == 0, outcome.err
        assert Path(outcome.json["run_dir"]).name.startswith(f"{name}-hmog-")
    outcome = mixgan("report", "outputs", "trusted=[mine]")
    assert outcome.code == 0, outcome.err
    with (Path(outcome.json["tables"]) / "runs.csv").open() as file:
        assert {row["data"] for row in csv.DictReader(file)} == set(SETS)
    page = Path(outcome.json["page"]).read_text(encoding="utf-8")
    assert all(name in page for name in SETS)


def test_wrong_key_of_the_data_set_is_refused(mixgan, package):
    outcome = mixgan("train", "--config-dir", "my_conf", "data=squares", *TINY, "+data.edge=3")
    assert outcome.code == 2 and "data.edge: Squares takes no such key" in outcome.err
    outcome = mixgan("train", "--config-dir", "my_conf", "data=squares", *TINY, "data.name=a/b")
    assert outcome.code == 2 and "data.name='a/b'" in outcome.err
