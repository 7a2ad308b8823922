import pytest

from mixgan_cli.errors import RunError
from mixgan_cli.runs import RunFolder, differences, identity, name_of, open_run
from tests.conftest import composed


def name(*overrides):
    return name_of(composed(*overrides))


@pytest.mark.parametrize(
    "override",
    ["hardware=cpu", "logger=wandb", "paths.outputs=elsewhere", "force=true", "evaluation.weights=x",
     "training.report_nimg=77", "training.sample_nimg=77", "training.checkpoint_nimg=77", "hardware.threads=1",
     "sweep.jobs=3"],
)  # fmt: skip
def test_keys_that_do_not_change_the_result_do_not_change_the_name(override):
    assert name(override) == name()


@pytest.mark.parametrize(
    "override",
    ["model.k=4", "model=mog", "objective=hinge", "training.nimg=1000", "data.size=8", "evaluation=full", "seed=1",
     "model.gate._target_=mixgan_cli.models.SoftmaxGate", "training.ema_half_life_nimg=0"],
)  # fmt: skip
def test_keys_that_do_change_it(override):
    assert name(override) != name()


def test_the_name_tells_data_model_and_seed():
    assert name("seed=7").startswith("digits-hmog-") and name("seed=7").endswith("-7")


def test_a_default_that_changes_changes_the_name():
    """The hash is over resolved values, not over what was overridden."""
    config = composed().model_dump(mode="json")
    assert "model.k" in identity(config) and "objective.optimizer.generator.lr" in identity(config)


def test_a_folder_is_held_by_one_process(tmp_path):
    run = composed(f"paths.outputs={tmp_path}")
    held = open_run(run)
    with pytest.raises(RunError, match="another process is at work"):
        open_run(run)
    held.close()
    open_run(run).close()


def test_force_takes_a_new_folder_and_deletes_nothing(tmp_path):
    run, forced = composed(f"paths.outputs={tmp_path}"), composed(f"paths.outputs={tmp_path}", "force=true")
    first = open_run(run)
    first.folder.mark_done()
    first.close()
    second = open_run(forced)
    assert second.folder.path.name == first.folder.path.name + "-2"
    second.close()
    again = open_run(forced)  # not finished: it is resumed, not multiplied
    assert again.folder.path == second.folder.path
    again.folder.mark_done()
    again.close()
    third = open_run(forced)
    assert third.folder.path.name.endswith("-3") and first.folder.done
    third.close()


def test_another_configuration_in_the_same_folder_is_refused_with_the_difference(tmp_path):
    open_run(composed(f"paths.run={tmp_path / 'run'}")).close()
    with pytest.raises(RunError, match=r"model\.k: 8 there, 4 here") as caught:
        open_run(composed(f"paths.run={tmp_path / 'run'}", "model.k=4", "logger=wandb"))
    assert "logger" not in str(caught.value)


def test_differences_name_keys_that_only_one_side_has():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"d": 2}}) == [
        "b.c: 2 there, absent here",
        "b.d: absent there, 2 here",
    ]


def test_not_a_runs_folder(tmp_path):
    with pytest.raises(RunError, match="not a run's folder"):
        RunFolder(tmp_path).read_config()


def test_the_stored_configuration_is_loadable_again(tmp_path):
    run = composed(f"paths.outputs={tmp_path}")
    opened = open_run(run)
    opened.close()
    from mixgan_cli.config.schema import Run, parse

    assert parse(opened.folder.read_config(), Run) == run
