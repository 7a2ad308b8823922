"""Add a term of the generator's loss from a package outside the repository."""

import json
from pathlib import Path

from tests.conftest import TINY
from tests.walks.page import run_example

TITLE = "A term for the generator"


def test_generator_term_of_another_package(mixgan, monkeypatch, tmp_path):
    outcome = run_example(TITLE, mixgan, tmp_path, monkeypatch, "model.k=2", "evaluation=none")
    records = [json.loads(line) for line in Path(outcome.json["run_dir"], "metrics.jsonl").read_text().splitlines()]
    losses = [record for record in records if "loss/generator" in record]
    assert losses and all(-1 < record["loss/spread"] < 0 < record["loss/diversity"] for record in losses)


def test_generator_term_refuses_what_it_cannot_use(mixgan, monkeypatch, tmp_path):
    run_example(TITLE, mixgan, tmp_path, monkeypatch, "model.k=2", "evaluation=none")
    words = ("train", "--config-dir", "my_conf", "objective/terms=spread", "model=mggan", *TINY, "training.batch=1")
    refused = mixgan(*words)
    assert refused.code == 2 and "objective.terms.spread: one sample has no spread" in refused.err
