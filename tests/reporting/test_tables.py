"""Tables as text: exact for programs, short for people."""

import csv
import io
import json

import pytest

from mixgan_cli.reporting.tables import (
    format_value,
    mean_and_sd,
    to_csv,
    to_latex,
    to_markdown,
    without_constants,
    write_tables,
)

ROWS = [{"model": "a|b", "fid": 1.23456, "n": 3}, {"model": "c_d", "fid": None}]


def test_csv_keeps_every_digit():
    assert list(csv.DictReader(io.StringIO(to_csv(ROWS)))) == [
        {"model": "a|b", "fid": "1.23456", "n": "3"},
        {"model": "c_d", "fid": "", "n": ""},
    ]


def test_json_keeps_numbers_and_missing_values(tmp_path):
    write_tables(tmp_path, "table", [{"fid": "1.2"}], ROWS)
    assert json.loads((tmp_path / "table.json").read_text()) == ROWS


def test_markdown_aligns_numbers_right_and_escapes_bars():
    assert to_markdown(ROWS).splitlines() == [
        "| model | fid | n |",
        "| --- | ---: | ---: |",
        r"| a\|b | 1.235 | 3 |",
        "| c_d | – | – |",
    ]


def test_latex_escapes_special_characters():
    lines = to_latex([{"model_k": "50 % & more", "fid ↓": "1.0 ± 0.2"}]).splitlines()
    assert lines[0] == r"\begin{tabular}{lr}" and lines[-1] == r"\end{tabular}"
    assert lines[2] == r"model\_k & fid $\downarrow$ \\" and lines[4] == r"50 \% \& more & 1.0 $\pm$ 0.2 \\"


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [(0.23, 0.155563, "0.23 ± 0.16"), (1242.0, 11.3, "1242 ± 11"), (2e-5, 1.41e-5, "0.000020 ± 0.000014"),
     (3.0, 0.0, "3 ± 0"), (3.14159, None, "3.142"), (None, None, "–"),
     (1.0, 1e-13, "1 ± 1e-13"), (1.0, float("nan"), "1"), (1.0, float("inf"), "1")],
)  # fmt: skip
def test_a_mean_has_as_many_decimals_as_its_deviation(mean, sd, text):
    assert mean_and_sd(mean, sd) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), ("", "–"), (0, "0"), (0.123456, "0.1235"), ("x", "x")])
def test_values_are_formatted_with_four_digits(value, text):
    assert format_value(value) == text


def test_hostile_texts_are_escaped():
    hostile = [{"=1+1": "=cmd()", "a|b": "<script>alert(1)</script>\n| x |", "n": "[x](http://y)"}]
    assert "'=cmd()" in to_csv(hostile)
    assert to_markdown(hostile).count("\n") == 3 and r"\<script>" in to_markdown(hostile)
    assert r"\[x\](http://y)" in to_markdown(hostile)
    assert to_latex([{"a": "[2pt]"}]).splitlines()[4].startswith("{}[2pt]")  # else it would be a length


def test_equal_columns_are_separated_and_empty_ones_removed():
    rows = [{"k": 2, "lr": 0.1, "fid": 1.00001, "kid": None}, {"k": 4, "lr": 0.1, "fid": 1.00002, "error": ""}]
    assert without_constants(rows) == ([{"k": 2}, {"k": 4}], {"lr": 0.1, "fid": 1.00001})
    assert without_constants(rows[:1]) == ([{"k": 2, "lr": 0.1, "fid": 1.00001}], {})


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [(0.96326, 0.000097, "0.9633 ± 0.0001"), (0.0, 0.00012, "0.00000 ± 0.00012"), (99.1234, 0.0012, "99.12 ± 0.001"),
     (12345.6, 0.5, "12346 ± 0.5"), (0.00615, 0.00016, "0.00615 ± 0.00016")],
)  # fmt: skip
def test_means_have_at_most_four_digits(mean, sd, text):
    assert mean_and_sd(mean, sd) == text
