"""What a command line with -m asks for."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from mixgan_cli.errors import ConfigError
from mixgan_cli.sweeps.plan import plan, swept_words
from mixgan_cli.sweeps.sweep import Job

GRID = ("-m", "model=mggan", "model.beta=0,0.1", "model.k=2,4", "seed=0,1,2")


def of(*words):
    return plan("config", words)


def test_all_combinations():
    sweep = of(*GRID)
    assert len(sweep.planned) == 12 == len({Job(overrides, 0).id for overrides in sweep.planned})
    assert sweep.planned[0] == ("model=mggan", "model.beta=0", "model.k=2", "seed=0")


@pytest.mark.parametrize("words", [(), ("seed=0,1",), ("seed=0,1", "--cfg", "job")])
def test_command_without_a_sweep_has_no_plan(words):
    assert of(*words) is None


def test_multirun_mode_can_be_set_by_its_key():
    assert of("hydra.mode=MULTIRUN", "seed=0,1").planned == (("seed=0",), ("seed=1",))


def test_sweep_folder_names_the_swept_keys_and_is_stable():
    sweep = of(*GRID)
    assert sweep.folder.parent == Path("outputs/sweeps")
    assert sweep.folder.name.startswith("mggan-beta-k-seed-") and sweep.folder == of(*GRID).folder
    assert of(*reversed(GRID)).folder.name.rpartition("-")[2] == sweep.folder.name.rpartition("-")[2]


@pytest.mark.parametrize(
    "word", ["sweep=joblib", "sweep.jobs=3", "logger=wandb", "hydra.verbose=false", "hardware.device=cpu", "force=true"]
)
def test_keys_that_do_not_affect_results_keep_the_folder(word):
    sweep, other = of(*GRID), of(*GRID, word)
    assert other.folder == sweep.folder
    ids = [[Job(overrides, 0).id for overrides in each.planned] for each in (sweep, other)]
    assert ids[0] == ids[1]


def test_intervals_count_if_an_alarm_may_end_a_run():
    intervals = ("training.report_nimg=80,800", "training.checkpoint_nimg=80")
    for stop, jobs in (("alarms.stop=false", 1), ("alarms.stop=true", 2), ("alarms.stop=false,true", 4)):
        sweep = of("-m", stop, *intervals)
        ids = {Job(overrides, 0, stops=sweep.stops).id for overrides in sweep.planned}
        assert len(ids) == jobs and sweep.jobs()[0].stops == sweep.stops
        assert (sweep.folder == of("-m", stop, intervals[0]).folder) == (jobs == 1)


@pytest.mark.parametrize("word", ["training.nimg=1000", "data=mnist", "evaluation=full", "seed=0,1"])
def test_keys_that_affect_results_change_the_folder(word):
    words = [each for each in GRID if each.partition("=")[0] != word.partition("=")[0]]
    assert of(*words, word).folder.name.rpartition("-")[2] != of(*GRID).folder.name.rpartition("-")[2]


@pytest.mark.parametrize(
    ("word", "folder"),
    [("paths.outputs=elsewhere", "elsewhere/sweeps"), ("sweep.name=mine", "outputs/sweeps/mine"),
     ("hydra.sweep.dir='a b, c'", "a b, c")],
)  # fmt: skip
def test_sweep_folder_can_be_set(word, folder):
    sweep = of(*GRID, word)
    assert folder in (str(sweep.folder), str(sweep.folder.parent))


def test_path_that_is_not_utf8_can_be_in_a_sweep():
    one, other = (of("-m", "data=folder", f"data.root='{name}'", "seed=1,2") for name in ("caf\udce9", "caf\udcea"))
    assert one.folder != other.folder and one.planned[0][1] != other.planned[0][1]


def test_names_are_names_of_folders():
    name = of("-m", "data=folder", "+data.root=../a b", "experiment=mggan_ring", "model.head.form=general,pairwise")
    assert name.folder.name.startswith("folder-mggan_ring-form-")
    long = of("-m", *(f"+objective.{'x' * 20}{number}=1,2" for number in range(8)))
    assert len(long.folder.name) < 80


def test_yaml_file_can_define_the_sweep(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = (
        "# @package _global_\npaths: {outputs: there}\nhydra: {sweeper: {params: {model.k: '2,4', seed: 'range(3)'}}}"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    sweep = of("-m", "--config-dir", str(tmp_path), "experiment=mine", "seed=7")
    assert list(sweep.planned) == [
        ("model.k=2", "seed=7", "experiment=mine"),
        ("model.k=4", "seed=7", "experiment=mine"),
    ]
    assert sweep.folder.parent == Path("there/sweeps")


def test_multirun_in_a_yaml_of_a_user_is_a_sweep(tmp_path):
    experiment = tmp_path / "experiment" / "mine.yaml"
    experiment.parent.mkdir()
    experiment.write_text("# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}\n")
    sweep = of("--config-dir", str(tmp_path), "experiment=mine")
    assert sweep.planned == (("seed=1", "experiment=mine"), ("seed=2", "experiment=mine"))
    assert sweep.folder.name.startswith("mine-")
    assert of("--config-dir", str(tmp_path), "seed=1") is None


@pytest.mark.parametrize("command", ["train", "sample", "evaluate"])
@pytest.mark.parametrize("word", ["seed=range(0)", "seed=range(5,2)"])
def test_sweep_without_values_is_refused(mixgan, command, word):
    outcome = mixgan(command, "-m", word)
    assert outcome.code == 2 and f"{word}: nothing to sweep over" in outcome.err


@pytest.mark.parametrize("command", ["train", "sample"])
@pytest.mark.parametrize("word", ["seed=range(0,10,0)", "seed=range(0,1,0.0)"])
def test_range_with_step_zero_is_refused(mixgan, command, word):
    outcome = mixgan(command, "-m", word)
    assert outcome.code == 2 and f"{word}: the step of a range cannot be 0" in outcome.err


@pytest.mark.parametrize("command", ["train", "sample"])
@pytest.mark.parametrize("words", [("seed=range(0,1e6)",), ("seed=range(200)", "n=range(1,200)")])
def test_sweep_over_too_many_values_is_refused_at_once(mixgan, command, words):
    outcome = mixgan(command, "-m", *words)
    assert outcome.code == 2 and f"{words[-1]}: a sweep has at most 10,000 jobs" in outcome.err


def test_glob_without_a_match_is_refused():
    with pytest.raises(ConfigError, match="nothing to sweep over"):
        of("-m", "experiment=glob(zzz*)")


def test_keys_of_swept_choices_are_left_to_the_jobs():
    words = ["-m", "data=ring,grid", "data.n=100", "model=mog", "model.k=4"]
    assert swept_words(words) == ["-m", "data=ring,grid", "data.n=choice(100)", "model=mog", "model.k=4"]
    assert of(*swept_words(words)).planned[0] == ("data=ring", "data.n=100", "model=mog", "model.k=4")
    assert swept_words(["-m", "data=ring,grid", "data.n=1,2"])[-1] == "data.n=1,2"


def test_models_with_other_numbers_of_experts_are_reported(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mixgan"), "propagate", True)
    caplog.set_level(logging.INFO, logger="mixgan")
    of("-m", "model=mog,mggan")
    assert "different numbers of experts by default: mggan 10, mog 8. model.k=8 gives all the same" in caplog.text
    caplog.clear()
    of("-m", "model=mog,mggan", "model.k=4")
    of("-m", "model=mog,hmog")
    assert caplog.text == ""


def test_search_has_no_planned_jobs():
    sweep = of("-m", "search=optuna", "model.beta=interval(0,1)", "sweep.optimize=kid", "sweep.direction=maximize")
    assert sweep.planned is None and sweep.optimize == "kid"


@pytest.mark.parametrize(
    ("words", "told"),
    [(("sweep.jobs=0",), r"sweep\.jobs=0: Input should be greater than 0"),
     (("sweep.direction=up",), r"sweep\.direction='up': Input should be 'minimize' or 'maximize'"),
     (("model.beta=interval(0,1)",), r"model\.beta=interval\(0,1\): only a search can choose from an interval"),
     (("search=optuna", "sweep.optimize=null"), r"sweep\.optimize=null: a search needs a metric")],
)  # fmt: skip
def test_invalid_sweeps_are_refused_before_any_job_starts(words, told):
    with pytest.raises(ConfigError, match=told):
        of("-m", "seed=0,1", *words)


@pytest.mark.parametrize(
    ("word", "extra"), [("sweep=joblib", "joblib"), ("sweep=slurm", "submitit"), ("search=optuna", "optuna")]
)
def test_missing_plugin_is_reported(word, extra, tmp_path):
    hidden = "import sys; sys.modules['hydra_plugins'] = None; from mixgan_cli.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", hidden, "train", "-m", "seed=0,1", word]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 2 and finished.stderr.endswith(f"is not installed: pip install 'mixgan[{extra}]'\n")


def test_incompatible_launcher_and_search_are_refused(mixgan):
    outcome = mixgan("train", "-m", "search=optuna", "sweep=submitit", "model.k=2,4")
    assert outcome.code == 2 and "Key 'max_batch_size' not in 'OptunaSweeperConf'" in outcome.err


def test_cfg_of_a_sweep_is_refused(mixgan):
    outcome = mixgan("train", "-m", "model.k=2,4", "--cfg", "job")
    assert outcome.code == 2 and "use only one of them" in outcome.err and "Traceback" not in outcome.err
