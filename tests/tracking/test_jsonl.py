import json

import pytest

from mixgan_cli.tracking import jsonl
from mixgan_cli.tracking.jsonl import JsonlLogger, read_records
from mixgan_cli.tracking.tracker import RunInfo


def info(folder, nimg=0):
    return RunInfo("name", folder, {"seed": 0}, 100, nimg)


def test_resume_cuts_lines_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logger = JsonlLogger(path)
    logger.start(info(tmp_path))
    for nimg in (10, 20, 30):
        logger.record({"nimg": nimg})
    logger.finish(None)
    with path.open("a") as file:
        file.write('{"nimg": 4')  # killed in the middle of a line
    logger = JsonlLogger(path)
    logger.start(info(tmp_path, nimg=20))
    logger.record({"nimg": 30, "again": True})
    logger.finish({})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"nimg": 10}, {"nimg": 20}, {"nimg": 30, "again": True},
    ]  # fmt: skip


def test_final_evaluation_is_logged_once(tmp_path):
    """Killed between the final evaluation and DONE, the run evaluates again."""
    training = [{"nimg": 50, "img_per_second": 1}, {"nimg": 50, "fid": 3}, {"nimg": 100, "img_per_second": 1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*training, {"nimg": 100, "fid": 2}]))
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.start(info(tmp_path, nimg=100))
    logger.finish({})
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == training


def test_alarm_is_a_line_of_its_own(tmp_path):
    logger = JsonlLogger(tmp_path / "metrics.jsonl")
    logger.start(info(tmp_path))
    logger.alarm("usage", "expert 1 is rarely used", 40)
    logger.finish(None)
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line) == {"nimg": 40, "alarm": "usage", "message": "expert 1 is rarely used"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_wait_until_the_log_can_be_opened(path, caplog):
    path.mkdir()
    logger = JsonlLogger(path)
    logger.start(info(path.parent, nimg=20))
    logger.record({"nimg": 30})
    path.rmdir()
    path.write_text("".join(f'{{"nimg": {nimg}}}\n' for nimg in (10, 20, 30, 40)))
    logger.record({"nimg": 40, "again": True})
    assert read(path) == [{"nimg": 10}, {"nimg": 20}, {"nimg": 30}, {"nimg": 40, "again": True}]
    logger.finish({})
    assert caplog.text.count("cannot be written (Is a directory)") == 1 and "lacks" not in caplog.text


def test_lines_wait_while_the_resumed_log_cannot_be_cut(path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    path.write_text('{"nimg": 10}\n{"nimg": 30}\n')
    logger = JsonlLogger(path)
    with monkeypatch.context() as patched:
        patched.setattr(jsonl, "write_text", full)
        logger.start(info(path.parent, nimg=20))
        logger.record({"nimg": 30, "again": True})
    logger.finish({})
    assert read(path) == [{"nimg": 10}, {"nimg": 30, "again": True}]


def test_lines_that_wait_have_a_bound(path, monkeypatch, caplog):
    path.mkdir()
    monkeypatch.setattr(jsonl, "MAX_WAITING", 3 * len('{"nimg": 10}'))
    logger = JsonlLogger(path)
    logger.start(info(path.parent))
    for nimg in (10, 20, 30, 40, 50):
        logger.record({"nimg": nimg})
    path.rmdir()
    logger.finish({})
    assert [record["nimg"] for record in read(path)] == [30, 40, 50] and "lacks 2 lines" in caplog.text


def test_waiting_lines_of_an_interrupted_run_are_written_once(path):
    """The state at 20 images has two lines that waited; one of them was written after it was saved."""
    path.write_text('{"nimg": 10}\n')
    logger = JsonlLogger(path, ['{"nimg": 10}', '{"nimg": 20}', '{"nimg": 100, "fid": 3}'])
    logger.start(info(path.parent, nimg=20))
    logger.finish({})
    assert read(path) == [{"nimg": 10}, {"nimg": 20}]


def test_damaged_lines_are_left_out_and_counted(path, caplog):
    """Zeros where a power cut took a line and where the next one begins, half a line, bytes that are not text."""
    good = ['{"nimg": 10}', '{"nimg": 20}']
    bad = [
        b"\0" * 4096 + good[1].encode(),
        b'{"ni',
        b"\xff\xfe",
        b"[1]",
        b'{"step": 1}',
        b'{"nimg": "1"}',
        b'{"nimg": NaN}',
    ]
    path.write_bytes(b"\n".join([good[0].encode(), *bad, b'{"nimg": 30}', b'{"nim\0\0']))
    logger = JsonlLogger(path, ["damaged", '{"nimg": 15}'])
    logger.start(info(path.parent, nimg=20))
    logger.record({"nimg": 30, "again": True})
    logger.finish({})
    assert read(path) == [{"nimg": 10}, {"nimg": 20}, {"nimg": 15}, {"nimg": 30, "again": True}]
    assert caplog.text.count(f"{path}: 8 damaged lines are left out") == 1 and "disabled" not in caplog.text


def test_lines_of_a_killed_run_are_not_called_damaged(path, caplog):
    path.write_text('{"nimg": 10}\n{"nimg": 20')
    assert [record for _, record in read_records(path)] == [{"nimg": 10}] and caplog.text == ""
