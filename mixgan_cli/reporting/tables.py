"""Tables as text: CSV for programs, Markdown and LaTeX for people."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixgan_cli.runtime.io import write_text

Row = Mapping[str, Any]
NONE = "–"
DECIMALS = 6
"""At most; smaller deviations have an exponent."""
FIGURE = rf"{NONE}|-?[\d.,]+(e[+-]?\d+)?( ± [\d.]+)?( \(n=\d+\))?"
OF_LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "β": r"$\beta$", "–": "--", "→": r"$\to$",
}  # fmt: skip


def write_tables(folder: Path, name: str, rows: Sequence[Row], exact: Sequence[Row]) -> None:
    """Write NAME.md and NAME.tex of rows as people read them, and NAME.csv of the exact figures."""
    write_text(folder / f"{name}.csv", to_csv(exact))
    write_text(folder / f"{name}.md", to_markdown(rows))
    write_text(folder / f"{name}.tex", to_latex(rows))


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV, a column for every key of any of them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _no_formula(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table, figures to the right."""
    columns = columns_of(rows)
    lines = [[*map(_plain, columns)], ["---:" if _figures(rows, column) else "---" for column in columns]]
    lines += [[_plain(cell(row.get(column))) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(rows: Sequence[Row]) -> str:
    """Return rows as a LaTeX tabular with booktabs' rules."""
    columns = columns_of(rows)
    alignment = "".join("r" if _figures(rows, column) else "l" for column in columns)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    for number, row in enumerate([dict(zip(columns, columns, strict=True)), *rows]):
        told = " & ".join(_escaped(cell(row.get(column))) for column in columns)
        lines.append(("{}" if told[:1] in ("[", "*") else "") + told + r" \\")  # else the line above would take it
        if number == 0:
            lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return every key of any row, in the order in which they come."""
    return list(dict.fromkeys(key for row in rows for key in row))


def cell(value: Any) -> str:
    """Return a value as people read it: a figure with four digits, nothing as a dash."""
    if value is None or value == "":
        return NONE
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def mean_and_sd(mean: float | None, sd: float | None) -> str:
    """Return "mean ± sd", the deviation with two digits, the mean with as many decimals; without one the mean alone."""
    if mean is None:
        return NONE
    if not sd or not math.isfinite(sd):
        return f"{mean:.4g}" + (" ± 0" if sd == 0 else "")
    decimals = max(0, 1 - math.floor(math.log10(sd)))
    if decimals > DECIMALS:
        return f"{mean:.4g} ± {sd:.2g}"
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _figures(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds figures: those stand to the right."""
    return all(re.fullmatch(FIGURE, cell(row.get(column))) for row in rows)


def _no_formula(value: Any) -> Any:
    """A text that spreadsheets would take for a formula, as a text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "@") else value


def _plain(text: str) -> str:
    """A text as a cell of Markdown, with nothing in it that is more."""
    text = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"([<\[\]*_`])", r"\\\1", text) if re.search(r"[<\[`]", text) else text


def _escaped(text: str) -> str:
    return "".join(OF_LATEX.get(letter, letter) for letter in text)
