import json

from mixgan_cli.tracking.jsonl import JsonlLogger
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
