"""Add a logger from a package outside the repository: one class and one YAML file."""

import json

from tests.conftest import TINY

LOGGER = """
import json
from pathlib import Path


class TextLogger:
    def __init__(self, file: str) -> None:
        self.file = file

    def start(self, run):
        self.path = Path(run.folder) / self.file

    def record(self, record):
        with self.path.open("a") as file:
            print(json.dumps(record), file=file)

    def image(self, name, path, nimg):
        self.record({"image": name, "nimg": nimg})

    def finish(self, summary):
        self.record({"summary": summary})
"""
YAML = """
text:
  _target_: my_loggers.TextLogger
  file: log.txt
"""


def test_logger_of_another_package(mixgan, monkeypatch, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/my_loggers.py").write_text(LOGGER)
    (tmp_path / "my_conf/logger").mkdir(parents=True)
    (tmp_path / "my_conf/logger/text.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path / "package")
    alarm = ("model=mggan", "model.k=2", "alarms.active=1")  # is raised at the first report
    outcome = mixgan("train", "--config-dir", "my_conf", "logger=text", *TINY, *alarm)
    assert outcome.code == 0, outcome.err
    assert "warning at 16 images" in outcome.err and "left out" not in outcome.err
    run = tmp_path / outcome.json["run_dir"]
    logged = [json.loads(line) for line in (run / "log.txt").read_text().splitlines()]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [entry for entry in logged if "step" in entry] == [entry for entry in records if "step" in entry]
    assert {entry["nimg"] for entry in logged if "image" in entry} == {0, 96}
    assert logged[-1]["summary"] == outcome.json["metrics"]
