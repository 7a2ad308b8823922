"""The page: one HTML file with all its pictures inside, made of what runs left in their folders."""

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
from mixgan_cli.reporting.tables import Row, cell, columns_of
from mixgan_cli.runtime.io import write_text


@dataclass(frozen=True)
class Picture:
    """A PNG with its title and what it shows."""

    title: str
    caption: str
    png: bytes = field(repr=False)

    @property
    def source(self) -> str:
        """The picture itself as a URL, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class TableOf:
    """A table with its title; cells are shown as people read them."""

    title: str
    rows: Sequence[Row]
    remarks: Sequence[str] = ()
    folded: bool = False
    """Whether it is shown only to who asks."""

    @property
    def columns(self) -> list[str]:
        """The headings."""
        return columns_of(self.rows)


@dataclass(frozen=True)
class Shares:
    """A table of shares [rows, columns], each row summing to 1, its cells shaded by them."""

    title: str
    caption: str
    row_names: Sequence[str]
    column_names: Sequence[str]
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True)
class RunPage:
    """What is told of one run."""

    anchor: str
    name: str
    status: str
    error: str | None
    facts: Mapping[str, Any]
    metrics: TableOf | None
    unavailable: Mapping[str, str]
    protocol: Mapping[str, Any]
    pictures: Sequence[Picture]
    shares: Sequence[Shares]
    tables: Sequence[TableOf]


@dataclass(frozen=True)
class Page:
    """A report: tables over all runs, figures of the sweep, what was published, and some runs in detail."""

    title: str
    tables: Sequence[TableOf]
    pictures: Sequence[Picture]
    published: Sequence[TableOf]
    runs: Sequence[RunPage]
    remarks: Sequence[str] = ()
    glossary: Mapping[str, str] = field(default_factory=dict)
    """What the figures on it are."""

    def write(self, path: Path) -> Path:
        """Write it as one HTML file, and return where."""
        made = time.strftime("%Y-%m-%d %H:%M")
        write_text(path, _template().render(page=self, version=__version__, made=made))
        return path


def _template() -> Any:
    """What a run's folder says may come from anyone: everything is escaped."""
    environment = Environment(
        loader=PackageLoader("mixgan_cli.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=cell, json=lambda value: json.dumps(value, indent=2, ensure_ascii=False))
    return environment.get_template("page.html")
