import importlib.util
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from mixgan_cli.errors import ConfigError
from mixgan_cli.tracking.tensorboard import TensorBoardLogger
from mixgan_cli.tracking.tracker import RunInfo
from tests.conftest import TINY

CONFIG = {"seed": 0, "model": {"name": "hmog", "k": 4, "tags": ["a", "b"], "gate": None}}


def log_a_run(folder, nimg=0, summary=None):
    """Log a record, an image and a warning at 10 and 20 images, or at 20 images alone if the run is resumed at 10."""
    Image.new("L", (8, 6), 255).save(folder / "grid.png")
    logger = TensorBoardLogger("tensorboard", 30)
    logger.start(RunInfo("name", folder, CONFIG, 20, nimg))
    for shown in range(nimg + 10, 30, 10):
        usage = {"expert_usage": [0.25, 0.75], "protocol": "quick"}
        logger.record({"step": shown // 10, "nimg": shown, "loss/generator": 0.5, **usage})
        logger.image("samples", folder / "grid.png", shown)
    logger.alarm("usage", "expert 1 is rarely used", 20)
    logger.finish(summary)


class FakeWriter:
    """A SummaryWriter that keeps its calls."""

    opened: ClassVar[list] = []

    def __init__(self, log_dir, purge_step, flush_secs):
        self.log_dir, self.purge_step, self.calls, self.closed = log_dir, purge_step, [], False
        self.opened.append(self)

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, *args, kwargs))

    def close(self):
        self.closed = True

    def of(self, name):
        return [call[1:-1] for call in self.calls if call[0] == name]


@pytest.fixture
def writers(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=FakeWriter))
    monkeypatch.setattr(FakeWriter, "opened", [])
    return FakeWriter.opened


def test_scalars_images_and_alarms_are_logged_at_nimg(writers, tmp_path):
    log_a_run(tmp_path, summary={"fid": 3.0, "expert_usage": [0.5, 0.5]})
    (writer,) = writers
    assert writer.log_dir == str(tmp_path / "tensorboard") and writer.purge_step is None and writer.closed
    scalars = writer.of("add_scalar")
    assert ("loss/generator", 0.5, 10) in scalars and ("expert_usage/1", 0.75, 20) in scalars
    assert {name for name, _, _ in scalars} == {"step", "loss/generator", "expert_usage/0", "expert_usage/1"}
    assert [(name, pixels.shape, nimg) for name, pixels, nimg in writer.of("add_image")] == [
        ("samples", (6, 8, 3), 10),
        ("samples", (6, 8, 3), 20),
    ]
    assert writer.of("add_text") == [("alarm/usage", "expert 1 is rarely used", 20)]
    hyperparameters = {"seed": 0, "model.name": "hmog", "model.k": 4, "model.tags": "['a', 'b']"}
    metrics = {"fid": 3.0, "expert_usage/0": 0.5, "expert_usage/1": 0.5}
    assert writer.of("add_hparams") == [(hyperparameters, metrics)]


def test_failed_run_has_no_final_metrics(writers, tmp_path):
    log_a_run(tmp_path, summary=None)
    assert not writers[0].of("add_hparams") and writers[0].closed


def test_resumed_run_purges_the_steps_it_repeats(writers, tmp_path):
    log_a_run(tmp_path, nimg=10)
    assert writers[0].purge_step == 11


def test_run_with_tensorboard_logs_metrics_and_samples(writers, mixgan):
    outcome = mixgan("train", *TINY, "logger=tensorboard")
    assert outcome.code == 0, outcome.err
    (writer,) = writers
    assert max(nimg for _, _, nimg in writer.of("add_scalar")) >= 96
    assert {nimg for _, _, nimg in writer.of("add_image")} == {0, 120}
    ((hyperparameters, metrics),) = writer.of("add_hparams")
    assert hyperparameters["training.nimg"] == 96 and metrics.keys() & {"ms_ssim", "gate_entropy"}


def test_missing_package_is_refused_before_training(mixgan, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        TensorBoardLogger("tensorboard", 30)
    outcome = mixgan("train", *TINY, "logger=tensorboard")
    assert outcome.code == 2 and "pip install tensorboard" in outcome.err and "Traceback" not in outcome.err
    assert not list(tmp_path.glob("outputs/*"))


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="the package tensorboard is not installed: event files are not read back",
)
def test_event_files_can_be_read_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_a_run(tmp_path)
    log_a_run(tmp_path, nimg=10, summary={"fid": 3.0})  # resumed: what was logged at 20 images is logged again
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/generator")] == [(10, 0.5), (20, 0.5)]
    assert [event.step for event in events.Images("samples")] == [10, 20]
    picture = events.Images("samples")[0]
    assert (picture.width, picture.height) == (8, 6)
    assert np.isclose(events.Scalars("fid")[0].value, 3.0)
    assert "alarm/usage/text_summary" in events.Tags()["tensors"]
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
