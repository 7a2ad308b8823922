"""The report page: one HTML file that contains all of its pictures."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mixgan_cli import __version__
from mixgan_cli.reporting.tables import Row, columns_of, format_value
from mixgan_cli.runtime.io import write_text


@dataclass(frozen=True)
class Picture:
    """A PNG with a title and a caption."""

    title: str
    caption: str
    png: bytes = field(repr=False)

    @property
    def source(self) -> str:
        """The picture as a data URL, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class PageTable:
    """A table with a title."""

    title: str
    rows: Sequence[Row]
    remarks: Sequence[str] = ()
    folded: bool = False
    """If true, the table is collapsed until the reader opens it."""

    @property
    def columns(self) -> list[str]:
        """The column headings."""
        return columns_of(self.rows)


@dataclass(frozen=True)
class ShareTable:
    """A table of shares [rows, columns] with shaded cells; each row sums to 1."""

    title: str
    caption: str
    row_names: Sequence[str]
    column_names: Sequence[str]
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True)
class RunSection:
    """The part of the page about one run."""

    anchor: str
    name: str
    status: str
    error: str | None
    facts: Mapping[str, Any]
    metrics: PageTable | None
    unavailable: Mapping[str, str]
    protocol: Mapping[str, Any]
    pictures: Sequence[Picture]
    shares: Sequence[ShareTable]
    tables: Sequence[PageTable]


@dataclass(frozen=True)
class Page:
    """A report: tables of all runs, plots of the sweep, published values, and sections about single runs."""

    title: str
    tables: Sequence[PageTable]
    pictures: Sequence[Picture]
    published: Sequence[PageTable]
    runs: Sequence[RunSection]
    remarks: Sequence[str] = ()
    glossary: Mapping[str, str] = field(default_factory=dict)
    """What each metric means, by name."""

    def write(self, path: Path) -> Path:
        """Write the page as one HTML file and return its path."""
        made = time.strftime("%Y-%m-%d %H:%M")
        write_text(path, _template().render(page=self, version=__version__, made=made))
        return path


def _template() -> Any:
    """Return the template; it escapes every value, because a run's folder may come from anyone."""
    environment = Environment(
        loader=PackageLoader("mixgan_cli.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        format_value=format_value, json=lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    )
    return environment.get_template("page.html")
