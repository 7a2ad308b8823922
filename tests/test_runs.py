import csv
import os
import re
from pathlib import Path

import pytest

import mixgan_cli
from mixgan_cli.config.compose import groups
from mixgan_cli.config.identity import configuration_hash, identity, run_name
from mixgan_cli.config.parse import check_values, parse
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.runs import RunFolder, config_differences, open_run
from tests.conftest import composed, composition


def name(*overrides):
    return run_name(composed(*overrides))


@pytest.mark.parametrize(
    "override",
    ["hardware=cpu", "logger=wandb", "paths.outputs=elsewhere", "force=true", "evaluation.weights=x",
     "training.report_nimg=77", "training.sample_nimg=77", "training.checkpoint_nimg=77", "hardware.threads=1",
     "sweep.jobs=3"],
)  # fmt: skip
def test_name_ignores_keys_that_do_not_affect_the_result(override):
    assert name(override) == name()


@pytest.mark.parametrize(
    "override",
    ["model.k=4", "model=mog", "objective=hinge", "training.nimg=1000", "data.size=8", "evaluation=full", "seed=1",
     "model.gate._target_=mixgan_cli.models.SoftmaxGate", "training.ema_half_life_nimg=0"],
)  # fmt: skip
def test_name_depends_on_keys_that_affect_the_result(override):
    assert name(override) != name()


def test_name_has_data_model_and_seed():
    assert name("seed=7").startswith("digits-hmog-") and name("seed=7").endswith("-s7")


SPLIT = "data.split_seed=${seed}"


@pytest.mark.parametrize("overrides", [(), (SPLIT,), ("evaluation.seed=${seed}", SPLIT)])
def test_seeds_of_a_configuration_share_all_but_the_seed(overrides):
    names = {name(*overrides, f"seed={seed}").rpartition("-s")[::2] for seed in (0, 1, 12)}
    assert len({configuration for configuration, _ in names}) == 1 and {seed for _, seed in names} == {"0", "1", "12"}


def test_hash_keeps_a_fixed_split_from_one_that_follows_the_seed():
    """At seed 0, both splits are the same one, but over seeds they are not."""
    fixed = {name("data.split_seed=0", f"seed={seed}").rpartition("-s")[0] for seed in (0, 1)}
    assert len(fixed) == 1 and name(SPLIT).rpartition("-s")[0] not in fixed


def test_only_values_that_equal_the_seed_are_left_out_of_the_hash():
    """Whatever a configuration says of itself, so that no two runs share hash and seed."""
    config = composed("seed=3").model_dump(mode="json") | {"seeded": ["model.k", "data.split_seed"]}
    other = {**config, "model": {**config["model"], "k": 16}}
    assert configuration_hash(config) != configuration_hash(other)


def test_stored_configuration_has_the_hash_of_the_folder(tmp_path):
    with open_run(composed(f"paths.outputs={tmp_path}", SPLIT, "seed=5")) as folder:
        assert configuration_hash(folder.read_config()) in folder.path.name


@pytest.mark.parametrize("data", groups()["data"])
def test_data_set_has_one_name_in_choices_and_folders(data):
    own = data in ("arrays", "folder")
    run = composed(f"data={data}", *(["data.root=/far/somewhere.zip"] if own else []))
    called = "somewhere" if own else data
    assert run.data["name"] == called and run_name(run).startswith(f"{called}-hmog-")


def test_published_figures_use_the_names_of_data_sets():
    files = list(Path(mixgan_cli.__file__).parent.glob("reporting/*/*.csv"))
    names = {row["data"] for path in files for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
    assert "fashion_mnist" in names and names <= set(groups()["data"])


def test_data_name_is_part_of_the_identity():
    """So that two sets of one class do not share a folder."""
    assert name("data.name=mine").startswith("mine-hmog-")
    assert identity(composed("data.name=mine").model_dump(mode="json"))["data.name"] == "mine"


def test_identity_has_resolved_defaults():
    config = composed().model_dump(mode="json")
    assert "model.k" in identity(config) and "objective.optimizer.generator.lr" in identity(config)


def test_a_folder_is_open_in_one_process_at_a_time(tmp_path):
    run = composed(f"paths.outputs={tmp_path}")
    with open_run(run), pytest.raises(RunError, match="another process is at work"), open_run(run):
        pass
    with open_run(run):
        pass


@pytest.mark.parametrize("text", ["my_run", "2024", "größe-1.5"])
def test_name_of_the_user_stands_for_data_and_model(text):
    assert name(f"name='{text}'") == name().replace("digits-hmog", text)


@pytest.mark.parametrize("text", ["a/b", "''", "'\x07'", "-x", ".x", "x" * 65, "'a b'", "'a\nb'", "true"])
def test_name_that_is_no_folder_name_is_refused_before_torch(text):
    with pytest.raises(ConfigError, match="name="):
        check_values(composition(f"name={text}"), Run)


def test_run_under_another_name_is_pointed_out(tmp_path, caplog):
    caplog.set_level("INFO", "mixgan")
    for overrides in (["name=one"], ["name=two"], ["name=two"], ["name=two", "seed=1"]):
        with open_run(composed(f"paths.outputs={tmp_path}", *overrides)) as folder:
            pass
    (line,) = caplog.messages
    assert "/two-" in line and "under another name" in line and "/one-" in line and folder.path.name.endswith("-s1")


def test_force_uses_a_new_folder_and_deletes_nothing(tmp_path):
    run, forced = composed(f"paths.outputs={tmp_path}"), composed(f"paths.outputs={tmp_path}", "force=true")
    with open_run(run) as first:
        first.mark_done()
    with open_run(forced) as second:
        assert second.path.name == first.path.name + "-2"
    with open_run(forced) as again:  # it is unfinished, so it is resumed
        assert again.path == second.path
        again.mark_done()
    with open_run(forced) as third:
        assert third.path.name.endswith("-3") and first.done


def test_folder_of_another_configuration_is_refused(tmp_path):
    with open_run(composed(f"paths.run={tmp_path / 'run'}")):
        pass
    other = composed(f"paths.run={tmp_path / 'run'}", "model.k=4", "logger=wandb")
    with pytest.raises(RunError, match=r"model\.k: 8 there, 4 here") as caught, open_run(other):
        pass
    assert "logger" not in str(caught.value)


@pytest.mark.parametrize("folder", ["/", ".", ".."])
def test_run_needs_a_folder_with_a_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in ((), ("force=true",)):
        run = composed(f"paths.run='{folder}'", *words)
        with pytest.raises(RunError, match=r"paths.run=.*not the name of a folder"), open_run(run):
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_run_in_place_of_a_file_is_refused(kind, tmp_path):
    path = tmp_path / "x"
    path.write_text("mine") if kind == "file" else os.mkfifo(path)
    with pytest.raises(RunError, match=r"paths.run=.*Not a directory"), open_run(composed(f"paths.run={path}")):
        pass
    with (
        pytest.raises(RunError, match=r"paths.outputs: .*cannot be written"),
        open_run(composed(f"paths.outputs={path}")),
    ):
        pass
    assert path.is_fifo() == (kind == "fifo")


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "samples/a.png", "checkpoints/last.pt"])
def test_run_in_a_folder_of_something_else_is_refused(name, tmp_path):
    mine = tmp_path / "project" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    run = composed(f"paths.run={tmp_path}/project")
    with (
        pytest.raises(RunError, match=f"paths.run: .*project: {name.partition('/')[0]} would be changed"),
        open_run(run),
    ):
        pass
    assert mine.read_text() == "mine" and not (tmp_path / "project" / "config.yaml").exists()
    mine.unlink()
    with open_run(run):
        pass


def test_differences_include_keys_of_one_side():
    assert config_differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"d": 2}}) == [
        "b.c: 2 there, absent here",
        "b.d: absent there, 2 here",
    ]


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(RunError, match="not a run's folder"):
        RunFolder(tmp_path).read_config()


def test_stored_configuration_can_be_parsed_again(tmp_path):
    run = composed(f"paths.outputs={tmp_path}")
    with open_run(run) as folder:
        pass
    assert parse(folder.read_config(), Run) == run


@pytest.mark.parametrize("group", ["data", "model", "choices"])
def test_configuration_whose_group_has_no_keys_is_refused(mixgan, finished, group):
    """The other runs are still listed."""
    damaged, good = RunFolder(finished()), finished("seed=1")
    damaged.config.write_text(re.sub(rf"(?m)^{group}:\n(?:[ -].*\n)+", f"{group}: x\n", damaged.config.read_text()))
    with pytest.raises(RunError, match=rf"config\.yaml: {group}: not what mixgan writes, or damaged"):
        damaged.read_config()
    outcome = mixgan("list", str(damaged.path), str(good))
    assert outcome.code == 0 and good.name in outcome.out and f"{group}: not what mixgan writes" in outcome.err
