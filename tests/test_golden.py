"""Training computes what it computed when tests/golden/recorded.json was recorded (tests/golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden import tree
from tests.golden.record import close, configuration, summary_of_case
from tests.golden.renames import SECTIONS, Renames

RECORDED = json.loads(Path(__file__).with_name("golden").joinpath("recorded.json").read_text(encoding="utf-8"))
RENAMES = Renames()
GROUPS: dict[str, list[str]] = {}
for experiment in RECORDED["experiments"]:  # by paper or data set; the many of hmog2019 by model as well
    first, *rest = experiment.split("_")
    GROUPS.setdefault(f"{first}_{rest[0]}" if first == "hmog2019" else first, []).append(experiment)


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch):
    for variable in ("MIXGAN_DATA", "MIXGAN_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("name", RECORDED["cases"])
def test_training_computes_the_recorded_numbers(name, tmp_path):
    recorded = RECORDED["cases"][name]
    now = summary_of_case(tree.train(RENAMES.overrides(name, recorded["overrides"]), tmp_path))
    found = [
        f"{section}: {line}"
        for section in SECTIONS
        for line in RENAMES.differences(name, section, recorded[section], now[section], close)
    ]
    assert not found, f"{len(found)} differences, such as:\n" + "\n".join(found[:10])


@pytest.mark.parametrize("group", GROUPS)
def test_experiments_compose_to_the_recorded_configuration(group):
    found = []
    for name in GROUPS[group]:
        now = tree.compose(RENAMES.overrides(name, [f"experiment={name}"]))
        lines = RENAMES.differences(name, "configuration", configuration(RECORDED, name), now, lambda a, b: a == b)
        found += [f"{name}: {line}" for line in lines]
    assert not found, f"{len(found)} differences, such as:\n" + "\n".join(found[:10])


DECLARED = {
    "overrides": {"model/head=score": ["model/head=plain", "seed=1"]},
    "configuration": {
        "keys": {"objective.*.least": "optim.*.min", "objective": "optim"},
        "values": {"a.b.Tree": "a.Tree"},
        "removed": {"optim.slot": None},
    },
    "only": {"hmog_*": {"configuration": {"removed": {"nimg": 5}, "added": {"nimg": None, "epochs": "any"}}}},
}
OLD = {"objective.x.least": 1, "objective.x.rate": 2, "objective.slot": None, "gate": "a.b.Tree", "nimg": 5}
NEW = {"optim.x.min": 1, "optim.x.rate": 2, "gate": "a.Tree", "nimg": None, "epochs": 3}


def test_declared_differences_are_allowed_only_where_declared():
    def differences(name, new):
        return Renames(DECLARED).differences(name, "configuration", OLD, new, lambda a, b: a == b)

    assert differences("hmog_mnist", NEW) == []
    assert differences("megan", NEW) == ["epochs: (absent) → 3", "nimg: 5 → None"]
    assert differences("hmog_mnist", NEW | {"optim.x.min": 7, "gate": "a.b.Tree"}) == [
        "gate: 'a.Tree' → 'a.b.Tree'",
        "optim.x.min: 1 → 7",
    ]


def test_overrides_follow_renamed_keys():
    words = Renames(DECLARED).overrides("megan", ["model/head=score", "objective.x.least=3", "nimg=2"])
    assert words == ["model/head=plain", "seed=1", "optim.x.min=3", "nimg=2"]


def test_unknown_table_of_renames_is_refused():
    with pytest.raises(ValueError, match="weihgts"):
        Renames({"weihgts": {}})
