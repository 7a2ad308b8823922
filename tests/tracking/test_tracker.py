import logging

import pytest

from mixgan_cli.tracking.tracker import Logger, RunInfo, Tracker, flatten_lists


def info(folder, nimg=0):
    return RunInfo("name", folder, {"seed": 0}, 100, nimg)


class Broken:
    """A logger that fails at everything."""

    def __init__(self):
        self.calls = 0

    def __getattr__(self, name):
        self.calls += 1
        raise OSError(f"cannot {name}")


class OnlyRecords:
    """The least that a logger needs; it inherits nothing."""

    def __init__(self):
        self.seen = []

    def record(self, record):
        self.seen.append(record)


class Pictures(OnlyRecords):
    def image(self, name, path, nimg):
        self.seen.append((name, nimg))


def log_everything(tracker, folder):
    tracker.start(info(folder))
    tracker.record({"nimg": 1})
    tracker.image("samples", folder / "x.png", 1)
    tracker.alarm("usage", "expert 1 is rarely used", 1)
    tracker.record({"nimg": 2})
    tracker.finish({"fid": 1.0})


@pytest.fixture
def warnings(monkeypatch):
    seen = []
    monkeypatch.setattr(logging.getLogger("mixgan"), "warning", lambda text, *words: seen.append(text % words))
    return seen


def test_failing_logger_is_dropped_with_one_warning(tmp_path, warnings):
    broken, good = Broken(), Pictures()
    log_everything(Tracker([broken, good]), tmp_path)
    assert good.seen == [{"nimg": 1}, ("samples", 1), {"nimg": 2}]
    assert broken.calls == 1
    assert warnings[0] == "Broken failed and is disabled for the rest of the run: cannot start"


def test_logger_with_record_alone_gets_all_records(tmp_path, warnings):
    logger = OnlyRecords()
    log_everything(Tracker([logger]), tmp_path)
    assert logger.seen == [{"nimg": 1}, {"nimg": 2}]
    assert warnings == ["warning at 1 images: expert 1 is rarely used"]


def test_only_loggers_with_image_show_images():
    class Inherits(Logger):
        pass

    assert not Tracker([OnlyRecords(), Inherits()]).shows_images
    assert Tracker([OnlyRecords(), Pictures()]).shows_images


def test_flatten_lists_numbers_the_entries_of_lists():
    record = {"nimg": 5, "expert_usage": [0.25, 0.75], "table": [[1, 2]]}
    flat = {"nimg": 5, "expert_usage/0": 0.25, "expert_usage/1": 0.75, "table/0/0": 1, "table/0/1": 2}
    assert flatten_lists(record) == flat
