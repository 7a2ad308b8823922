"""Metrics equal independent implementations, on random inputs and on odd ones (docs/evaluation.md has the table)."""

import re
from pathlib import Path

import pytest

from tests.evaluation.agreement import FLOAT32, deviations, largest

FOUND = list(deviations())


@pytest.mark.parametrize(("metric", "name", "off"), FOUND, ids=[f"{metric}-{name}" for metric, name, _ in FOUND])
def test_metric_equals_its_formula(metric, name, off):
    assert off <= FLOAT32.get(metric, 1e-7)


def test_table_of_the_docs_is_true():
    """Same metrics and inputs; deviations within what is tested, as they differ between machines."""
    page = Path(__file__).parents[2].joinpath("docs/evaluation.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| (?:\d+e-\d+|0) \|$", page, re.MULTILINE))
    assert rows == {metric: ", ".join(names) for metric, (names, *_) in largest(iter(FOUND)).items()}
