import json
import logging
import sys
import types

import pytest

from mixgan_cli.tracking.jsonl import JsonlSink
from mixgan_cli.tracking.tracker import RunInfo, Tracker
from mixgan_cli.tracking.wandb import WandbSink


def info(folder, nimg=0):
    return RunInfo("name", folder, {"seed": 0}, 100, nimg)


class Broken:
    """A sink that fails at everything."""

    def __init__(self):
        self.calls = 0

    def __getattr__(self, name):
        self.calls += 1
        raise OSError(f"cannot {name}")


class Remembering:
    def __init__(self):
        self.seen = []

    def start(self, run):
        self.seen.append("start")

    def record(self, record):
        self.seen.append(record)

    def image(self, name, path, nimg):
        self.seen.append((name, nimg))

    def finish(self, summary):
        self.seen.append(("finish", summary))


def test_a_sink_that_fails_is_dropped_with_one_warning(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging.getLogger("mixgan"), "warning", lambda text, *words: warnings.append(text % words))
    broken, good = Broken(), Remembering()
    tracker = Tracker([broken, good])
    tracker.start(info(tmp_path))
    tracker.record({"nimg": 1})
    tracker.image("samples", tmp_path / "x.png", 1)
    tracker.finish({"fid": 1.0})
    assert good.seen == ["start", {"nimg": 1}, ("samples", 1), ("finish", {"fid": 1.0})]
    assert broken.calls == 1
    assert warnings == ["Broken failed and is left out from here on: cannot start"]


def test_jsonl_on_resume_cuts_what_will_be_written_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    sink = JsonlSink(path)
    sink.start(info(tmp_path))
    for nimg in (10, 20, 30):
        sink.record({"nimg": nimg})
    sink.finish(None)
    with path.open("a") as file:
        file.write('{"nimg": 4')  # killed in the middle of a line
    sink = JsonlSink(path)
    sink.start(info(tmp_path, nimg=20))
    sink.record({"nimg": 30, "again": True})
    sink.finish({})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"nimg": 10}, {"nimg": 20}, {"nimg": 30, "again": True},
    ]  # fmt: skip


def test_jsonl_writes_the_final_evaluation_once(tmp_path):
    """Killed between the final evaluation and DONE, the run evaluates again."""
    training = [{"nimg": 50, "img_per_second": 1}, {"nimg": 50, "fid": 3}, {"nimg": 100, "img_per_second": 1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*training, {"nimg": 100, "fid": 2}]))
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink.start(info(tmp_path, nimg=100))
    sink.finish({})
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == training


def test_wandb_for_real_offline(offline, tmp_path):
    """The real package, without a login: a run is kept on disk, and the same id goes on after a resume."""
    from PIL import Image

    Image.new("L", (8, 8)).save(tmp_path / "grid.png")
    folders = [tmp_path / "run-1", tmp_path / "run-2"]
    ids = []
    for folder in [*folders, folders[0]]:  # two jobs of a sweep in one process, then the first resumed
        folder.mkdir(exist_ok=True)
        sink = WandbSink(project="test", entity=None, mode="auto", tags=["a"])
        sink.start(info(folder))
        sink.record({"step": 1, "nimg": 10, "loss/generator": 0.5, "expert_usage": [0.5, 0.5]})
        sink.image("samples", tmp_path / "grid.png", 10)
        ids.append(sink._run.id)
        assert sink._run.settings.mode == "offline"
        sink.finish({"ms_ssim": 0.2})
    assert ids[0] == ids[2] != ids[1]
    for folder, run_id in zip(folders, ids, strict=False):
        assert list(folder.glob(f"wandb/offline-run-*-{run_id}/*.wandb"))


class FakeRun:
    def __init__(self):
        self.logged, self.summary, self.exit_code, self.id = [], {}, None, "x"

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values):
        self.logged.append(values)

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.mark.parametrize("finished", [None, {"fid": 1.0}])
@pytest.mark.parametrize(
    ("key", "variable", "mode"), [(None, "", "offline"), ("secret", "", "online"), ("secret", "disabled", "disabled")]
)
def test_online_with_a_login_offline_without(monkeypatch, tmp_path, key, variable, mode, finished):
    monkeypatch.setenv("WANDB_MODE", variable)
    run, given = FakeRun(), {}
    module = types.SimpleNamespace(
        init=lambda **settings: given.update(settings) or run,
        api=types.SimpleNamespace(api_key=key),
        Settings=lambda **settings: settings,
        Image=lambda path: path,
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    sink = WandbSink(project="p", entity="e", mode="auto", tags=[])
    sink.start(info(tmp_path))
    sink.record({"nimg": 5, "expert_usage": [0.25, 0.75], "table": [[1, 2]]})
    sink.image("samples", tmp_path / "grid.png", 7)
    sink.finish(finished)
    assert (
        given["mode"] == mode
        and given["reinit"] == "finish_previous"
        and given["id"] == (tmp_path / "wandb_id").read_text()
    )
    assert given["config"] == {"seed": 0} and given["name"] == "name"
    image = {"samples": str(tmp_path / "grid.png"), "nimg": 7}
    flat = {"nimg": 5, "expert_usage/0": 0.25, "expert_usage/1": 0.75, "table/0/0": 1, "table/0/1": 2}
    assert run.logged == [flat, image]
    assert run.exit_code == (0 if finished else 1)  # a run that failed is shown as failed
    assert run.summary == (finished or {})
