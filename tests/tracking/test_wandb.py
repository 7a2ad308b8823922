import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from mixgan_cli.errors import RunError
from mixgan_cli.tracking.tracker import RunInfo
from mixgan_cli.tracking.wandb import WandbLogger
from tests.conftest import MGGAN, TINY


def info(folder, nimg=0):
    return RunInfo("name", folder, {"seed": 0}, 100, nimg)


def test_real_package_offline_keeps_one_id_a_run(offline, tmp_path, monkeypatch):
    """The real package, without a login: a run is kept on disk, and the same id goes on after a resume."""
    from PIL import Image

    monkeypatch.setattr(sys, "argv", ["mixgan train", "data.root=caf\udce9"])  # a name that is not UTF-8
    Image.new("L", (8, 8)).save(tmp_path / "grid.png")
    folders = [tmp_path / "run-1", tmp_path / "run-2"]
    ids = []
    for folder in [*folders, folders[0]]:  # two jobs of a sweep in one process, then the first resumed
        folder.mkdir(exist_ok=True)
        logger = WandbLogger(project="test", entity=None, mode="auto", tags=["a"])
        logger.start(info(folder))
        logger.record({"step": 1, "nimg": 10, "loss/generator": 0.5, "expert_usage": [0.5, 0.5]})
        logger.image("samples", tmp_path / "grid.png", 10)
        ids.append(logger._run.id)
        assert logger._run.settings.mode == "offline"
        logger.finish({"ms_ssim": 0.2})
    assert ids[0] == ids[2] != ids[1]
    for folder, run_id in zip(folders, ids, strict=False):
        assert list(folder.glob(f"wandb/offline-run-*-{run_id}/*.wandb"))


def test_path_that_is_not_utf8_is_refused_before_wandb_starts(offline, tmp_path):
    with pytest.raises(RunError, match="this path is not UTF-8"):
        WandbLogger(project="test", entity=None, mode="auto", tags=[]).start(info(tmp_path / "caf\udce9"))


class FakeRun:
    def __init__(self):
        self.logged, self.summary, self.exit_code, self.id = [], {}, None, "x"

    def define_metric(self, *args, **kwargs):
        pass

    def alert(self, **words):
        pass

    def log(self, values):
        self.logged.append(values)

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.mark.parametrize("finished", [None, {"fid": 1.0}])
@pytest.mark.parametrize(
    ("key", "variable", "mode"), [(None, "", "offline"), ("secret", "", "online"), ("secret", "disabled", "disabled")]
)
def test_online_with_a_login_offline_without_one(monkeypatch, tmp_path, key, variable, mode, finished):
    monkeypatch.setenv("WANDB_MODE", variable)
    run, given = FakeRun(), {}
    module = types.SimpleNamespace(
        init=lambda **settings: given.update(settings) or run,
        api=types.SimpleNamespace(api_key=key),
        Settings=lambda **settings: settings,
        Image=lambda path, caption: (path, caption),
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    logger = WandbLogger(project="p", entity="e", mode="auto", tags=[])
    logger.start(info(tmp_path))
    logger.record({"nimg": 5, "expert_usage": [0.25, 0.75], "table": [[1, 2]]})
    logger.image("samples", tmp_path / "grid.png", 7)
    logger.finish(finished)
    assert (
        given["mode"] == mode
        and given["reinit"] == "finish_previous"
        and given["id"] == (tmp_path / "wandb_id").read_text()
    )
    assert given["config"] == {"seed": 0, "run": {}} and given["name"] == "name"
    image = {"samples": (str(tmp_path / "grid.png"), "samples After 7 images."), "nimg": 7}
    flat = {"nimg": 5, "expert_usage/0": 0.25, "expert_usage/1": 0.75, "table/0/0": 1, "table/0/1": 2}
    assert run.logged == [flat, image]
    assert run.exit_code == (0 if finished else 1)  # a run that failed is shown as failed
    assert run.summary == (finished or {})


def test_jobs_of_a_sweep_share_a_group_and_say_what_they_are(mixgan, monkeypatch):
    jobs = []

    def init(**settings):
        jobs.append((settings, FakeRun()))
        return jobs[-1][1]

    images = lambda path, caption: caption  # noqa: E731
    module = types.SimpleNamespace(
        init=init, api=types.SimpleNamespace(api_key=""), Settings=lambda **settings: settings, Image=images
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    words = (*TINY, *MGGAN, "name=mine", "training.evaluate_nimg=32", "logger=wandb", "logger.wandb.tags=[first]")
    outcome = mixgan("train", "-m", *words, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert {settings["group"] for settings, _ in jobs} == {Path(outcome.json["sweep_dir"]).name}
    assert [settings["name"].startswith("mine-") for settings, _ in jobs] == [True, True]
    settings, run = jobs[1]
    assert settings["tags"] == ["digits", "mggan", "NonSaturating", "first"]
    facts = settings["config"]["run"]
    assert facts["seed"] == 1 and facts["hash"] in settings["name"] and facts["data"] == "digits"
    assert facts["parameters"]["generator"] > 0 and facts["parameters"]["discriminator"] > 0
    captions = [entry["samples"] for entry in run.logged if "samples" in entry]
    assert captions[-1] == "Samples of fixed latents. Each row is one expert. After 96 images."
    log = Path("outputs", settings["name"], "metrics.jsonl").read_text().splitlines()
    measured = [record for record in map(json.loads, log) if "ms_ssim" in record]
    best = min(measured, key=lambda record: abs(record["ms_ssim"] - record["ms_ssim_real"]))
    assert run.summary["best/ms_ssim"] == best["ms_ssim"] and len(measured) > 1


def test_single_run_has_no_group(mixgan, monkeypatch):
    seen = []
    monkeypatch.setattr(WandbLogger, "start", lambda self, run: seen.append(run))
    assert mixgan("train", *TINY, "training.nimg=8", "evaluation=none", "logger=wandb").code == 0
    (run,) = seen
    assert run.sweep is None and isinstance(run.facts, Mapping)
