"""docs/configuration.md is what conf/ says of itself, and conf/ says of every key what it is."""

import re
from pathlib import Path

import pytest

from docs.collect import accepted
from docs.collect.keys import Conf
from docs.collect.page import page
from mixgan_cli import cli
from mixgan_cli.config.compose import known_keys

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"


@pytest.fixture(scope="module")
def conf():
    return Conf()


def test_every_key_is_documented_where_it_is_defined(conf):
    assert conf.undocumented() == []


def test_page_is_up_to_date(conf):
    assert PAGE.read_text() == page(conf), "run `make configuration`"


@pytest.mark.parametrize("primary", sorted({command.config for command in cli.COMMANDS.values()}))
def test_no_key_that_is_composed_is_left_out(conf, primary):
    """By Hydra's composition. Of a value in braces the key before them is told."""
    told = set(re.findall(r"^\| `([\w.]+)` \|", PAGE.read_text(), re.MULTILINE))
    for key in set(known_keys(primary)) - set(conf.groups):
        parts = key.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        below = any(path.startswith(f"{key}.") for path in told)
        assert above & told or below or parts[-1] == "_target_", key


SMALL = {
    "config.yaml": "# A\ndefaults:\n  - model: a  # which\nseed: 0 # told\n        # twice\nmute: 1\n"
    "part: # told\n  one: 2\n",
    "model/a.yaml": "# B\nwidth: 3 # told\ndepth: 1\nnames: {x: 1, y: 2} # told",
    "model/b.yaml": "# C\ndefaults: [a, _self_]\nwidth: 4\nheight: '#' # told",
    "data/c.yaml": "# @package _global_\n# D\ndefaults:\n  - override /model: b\n"
    "data:\n  size: 5\nseed: 1\nmodel: {width: 5}\n",
}


def test_undocumented_keys_are_found(tmp_path, monkeypatch):
    """A key of a base, of the command or of another group is told there, and need not be where it is only set."""
    for name, content in SMALL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr("docs.collect.keys.conf_dir", lambda: tmp_path)
    monkeypatch.setattr("mixgan_cli.config.compose.conf_dir", lambda: tmp_path)
    conf = Conf()
    assert conf.undocumented() == [
        "config.yaml: mute", "config.yaml: part.one", "data/c.yaml: data.size", "model/a.yaml: model.depth",
    ]  # fmt: skip
    (tree,) = (key for key in conf.files["model", "b"].keys if key.path == "model.height")
    assert (tree.value, tree.comment) == ("'#'", "told")
    (seed,) = (key for key in conf.files["", "config"].keys if key.path == "seed")
    assert seed.comment == "told twice"
    assert conf.files["data", "c"].chosen == [("model", "b", "")]
    assert conf.files["", "config"].chosen == [("model", "a", "which")]


@pytest.mark.parametrize(
    ("path", "words"),
    [("seed", "integer ≥ 0"), ("alarms.usage", "number > 0 and ≤ 1 or `null`"), ("training.flips", "`true`, `false`"),
     ("hardware.device", "`auto`, `cpu`, `cuda`"), ("paths.run", "text or `null`"), ("model.experts", "a component"),
     ("objective.optimizer.gate", "a component or `null`"), ("no.such", "")],
)  # fmt: skip
def test_accepted_values_follow_the_schema(path, words):
    assert accepted.by_command("config", path) == words


def test_accepted_values_of_a_component_follow_its_class():
    assert accepted.by_part("mixgan_cli.models.UniformGate", "same_latents") == "`true`, `false`"
    assert accepted.by_part("torch.optim.Adam", "betas") == "[number, number]"
    assert accepted.by_part("mixgan_cli.objectives.DiffAugment", "cutout") == "number ≥ 0 and ≤ 1"
