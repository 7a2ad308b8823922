"""Add a data set from a package outside the repository: one class, and one YAML file for each set made of it."""

import csv
from pathlib import Path

import pytest

from tests.conftest import TINY

DATASET = """
import torch

from mixgan_cli.data.dataset import random_split
from mixgan_cli.data.packed import Packed


class Squares:
    def __init__(self, size: int, side: int) -> None:
        self.size, self.side = size, side
        self.shape = (1, size, size)

    def load(self):
        images = torch.zeros(100, 1, self.size, self.size, dtype=torch.uint8)
        for number, image in enumerate(images):
            first = number % (self.size - self.side + 1)
            image[0, first : first + self.side, first : first + self.side] = 255
        return random_split(Packed(images, None, f"squares of {self.side} px"), 0.2, seed=0)
"""
YAML = """
_target_: my_data.Squares
name: {name}
size: 8
side: {side}
"""
SETS = {"small_squares": 2, "large-squares.v2": 5}


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A package with the class, and two YAML files that name it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/my_data.py").write_text(DATASET)
    (tmp_path / "my_conf/data").mkdir(parents=True)
    for name, side in SETS.items():
        (tmp_path / f"my_conf/data/{name}.yaml").write_text(YAML.format(name=name, side=side))
    monkeypatch.syspath_prepend(tmp_path / "package")


def test_data_set_of_another_package(mixgan, package, tmp_path):
    for name in SETS:
        outcome = mixgan("train", "--config-dir", "my_conf", f"data={name}", *TINY)
        assert outcome.code == 0, outcome.err
        assert Path(outcome.json["run_dir"]).name.startswith(f"{name}-hmog-")
    outcome = mixgan("report", "outputs", "trusted=[my_data]")
    assert outcome.code == 0, outcome.err
    with (Path(outcome.json["tables"]) / "runs.csv").open() as file:
        assert {row["data"] for row in csv.DictReader(file)} == set(SETS)
    page = Path(outcome.json["page"]).read_text(encoding="utf-8")
    assert all(name in page for name in SETS)


def test_wrong_key_of_the_data_set_is_refused(mixgan, package):
    outcome = mixgan("train", "--config-dir", "my_conf", "data=small_squares", *TINY, "+data.edge=3")
    assert outcome.code == 2 and "data.edge: Squares takes no such key" in outcome.err
    outcome = mixgan("train", "--config-dir", "my_conf", "data=small_squares", *TINY, "data.name=a/b")
    assert outcome.code == 2 and "data.name='a/b'" in outcome.err
