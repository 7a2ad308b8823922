"""Tables as text: CSV and JSON for programs, Markdown, LaTeX and aligned columns for people."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixgan_cli.runtime.io import write_json, write_text

Row = Mapping[str, Any]
MISSING = "–"
MAX_DECIMALS = 6
"""Digits after the decimal point; a deviation that needs more is written with an exponent."""
NUMBER = rf"{MISSING}|-?[\d.,]+(e[+-]?\d+)?( ± [\d.]+)?( \(n=\d+\))?"
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "β": r"$\beta$", "–": "--", "→": r"$\to$",
}  # fmt: skip


def write_tables(folder: Path, name: str, rows: Sequence[Row], exact: Sequence[Row]) -> None:
    """Write NAME.md and NAME.tex of the formatted rows, and NAME.csv and NAME.json of the exact values."""
    write_text(folder / f"{name}.csv", to_csv(exact))
    write_json(folder / f"{name}.json", list(exact))
    write_text(folder / f"{name}.md", to_markdown(rows))
    write_text(folder / f"{name}.tex", to_latex(rows))


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV, with a column for every key of any row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _escape_formula(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table, with numbers aligned to the right."""
    columns = columns_of(rows)
    lines = [[*map(_escape_markdown, columns)], ["---:" if _is_numeric(rows, column) else "---" for column in columns]]
    lines += [[_escape_markdown(format_value(row.get(column))) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(rows: Sequence[Row]) -> str:
    """Return rows as a LaTeX tabular with the rules of booktabs."""
    columns = columns_of(rows)
    alignment = "".join("r" if _is_numeric(rows, column) else "l" for column in columns)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    for number, row in enumerate([dict(zip(columns, columns, strict=True)), *rows]):
        cells = " & ".join(_escape_latex(format_value(row.get(column))) for column in columns)
        lines.append(
            ("{}" if cells[:1] in ("[", "*") else "") + cells + r" \\"
        )  # else LaTeX would read it as an option of the line above
        if number == 0:
            lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def align(rows: Sequence[Row], width: int, rest: str = "in table.csv") -> list[str]:
    """Return the rows in aligned columns.

    Args:
        rows: one or more, with equal keys.
        width: of the terminal, in characters.
        rest: where the columns are that do not fit.
    """
    columns = [[name, *("" if row[name] is None else str(row[name]) for row in rows)] for name in rows[0]]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    fitting, used = 0, 0
    for column in padded:
        used += len(column[0]) + 2
        fitting += used <= width
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded[:fitting], strict=True)]
    left_out = len(padded) - fitting
    return [*lines, f"({left_out} more column{'s' if left_out > 1 else ''} {rest})"] if left_out else lines


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return every key of any row, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def without_constants(rows: Sequence[Row]) -> tuple[list[Row], dict[str, Any]]:
    """Return rows without the columns that are equal in all of them, and these columns with their value.

    Columns that are empty in all rows are left out of both. A single row is kept, except for its empty columns.
    """
    columns = {column: {format_value(row.get(column)) for row in rows} for column in columns_of(rows)}
    equal = {column for column, texts in columns.items() if len(texts) == 1}
    empty = {column for column in equal if columns[column] == {MISSING}}
    removed = equal if len(rows) > 1 else empty
    kept: list[Row] = [{column: row.get(column) for column in columns if column not in removed} for row in rows]
    return kept, {column: rows[0].get(column) for column in columns if column in removed - empty}


def format_value(value: Any) -> str:
    """Return a value as text: a number with four digits, a missing value as a dash."""
    if value is None or value == "":
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def mean_and_sd(mean: float | None, sd: float | None) -> str:
    """Return "mean ± sd", with two digits of the deviation and as many decimals of the mean; without sd the mean.

    If the mean would have more than four digits after its leading zeros, it has four, and the deviation one.
    """
    if mean is None:
        return MISSING
    if not sd or not math.isfinite(sd):
        return f"{mean:.4g}" + (" ± 0" if sd == 0 else "")
    decimals, exponent = max(0, 1 - _exponent(sd)), _exponent(mean) if mean else -MAX_DECIMALS
    if decimals > MAX_DECIMALS or decimals > max(0, 3 - exponent):
        return f"{mean:.{max(4, exponent + 1)}g} ± {sd:.1g}"
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _exponent(value: float) -> int:
    """Return the power of ten of a number's first digit."""
    return math.floor(math.log10(abs(value)))


def _is_numeric(rows: Sequence[Row], column: str) -> bool:
    """Return whether all cells of a column are numbers."""
    return all(re.fullmatch(NUMBER, format_value(row.get(column))) for row in rows)


def _escape_formula(value: Any) -> Any:
    """Quote a text that spreadsheets would read as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "@") else value


def _escape_markdown(text: str) -> str:
    """Return a text as a cell of a Markdown table, without active markup."""
    text = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"([<\[\]*_`])", r"\\\1", text) if re.search(r"[<\[`]", text) else text


def _escape_latex(text: str) -> str:
    return "".join(LATEX_ESCAPES.get(letter, letter) for letter in text)
