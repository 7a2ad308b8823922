"""Add a logger from a package outside the repository."""

import csv
import json

from tests.walks.page import run_example


def test_logger_of_another_package(mixgan, monkeypatch, tmp_path):
    """It gets every record, and an alarm, for which it has no method, does not drop it."""
    alarm = ("model=mggan", "model.k=2", "alarms.active=1")  # is raised at the first report
    outcome = run_example("A logger", mixgan, tmp_path, monkeypatch, *alarm)
    assert "warning at 16 images" in outcome.err and "left out" not in outcome.err
    run = tmp_path / outcome.json["run_dir"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = [
        [str(record["nimg"]), *(str(value) for key, value in record.items() if key.startswith("loss/"))]
        for record in records
        if "loss/generator" in record
    ]
    with (run / "losses.csv").open(newline="") as file:
        assert list(csv.reader(file)) == expected != []
