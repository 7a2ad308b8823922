"""The report page: one HTML file that contains all of its pictures."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, chain, zip_longest
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from mixgan_cli import __version__
from mixgan_cli.reporting.read_run import open_png
from mixgan_cli.reporting.tables import Row, columns_of, format_value
from mixgan_cli.runtime.io import write_text

SCRIPT = Path(__file__).with_name("templates").joinpath("sort.js").read_text(encoding="utf-8")
"""Sorts tables. The page allows no other script, whatever a run's files contain."""

MAX_BYTES = 4_500_000
"""Largest total size of the pictures on a page, so that a page with its tables has at most 5 MB."""


@dataclass(frozen=True)
class Link:
    """A value of a table that leads to a place on the page or to a folder next to it."""

    text: str
    href: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Picture:
    """A PNG with a title and a caption."""

    title: str
    caption: str
    png: bytes = field(repr=False)
    dark: bytes | None = field(default=None, repr=False)
    """The version for a dark page. A picture that has one is a figure with text: it scrolls rather than shrinks."""

    @cached_property
    def source(self) -> str:
        """The picture as a data URL, so that the page needs no other file."""
        return _data_url(self.png)

    @cached_property
    def dark_source(self) -> str | None:
        """The dark version as a data URL."""
        return _data_url(self.dark) if self.dark else None

    @property
    def n_bytes(self) -> int:
        """Its share of the page [bytes]."""
        return len(self.source) + len(self.dark_source or "")


@dataclass(frozen=True)
class PageTable:
    """A table with a title."""

    title: str
    rows: Sequence[Row]
    remarks: Sequence[str] = ()
    folded: bool = False
    """If true, the table is collapsed until the reader opens it."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Values that are equal in all rows, shown above the table."""

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
class GroupSection:
    """The part of the page about the runs of one data set that were measured with one protocol."""

    anchor: str
    title: str
    n_runs: int
    tables: Sequence[PageTable]
    pictures: Sequence[Picture]
    runs: Sequence[RunSection]
    """Those of the runs that are shown with all details."""


Section = TypeVar("Section", RunSection, GroupSection)


@dataclass(frozen=True)
class Page:
    """A report: groups of comparable runs, and published values."""

    title: str
    groups: Sequence[GroupSection]
    published: Sequence[PageTable]
    remarks: Sequence[str] = ()
    differences: Sequence[str] = ()
    """Why values of different groups are not comparable; folded on the page."""
    glossary: Mapping[str, str] = field(default_factory=dict)
    """What each metric means, by name."""

    @property
    def single(self) -> bool:
        """True if the page is about one run."""
        return len(self.groups) == 1 and self.groups[0].n_runs == 1

    def write(self, path: Path) -> Path:
        """Write the page as one HTML file and return its path."""
        made = time.strftime("%Y-%m-%d %H:%M")
        page = self._limited(MAX_BYTES)
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        write_text(path, _template().render(page=page, version=__version__, made=made, script=SCRIPT, digest=digest))
        return path

    def _limited(self, limit: int) -> Page:
        """Return the page without the pictures for which there is no space, and with a remark that counts them.

        The pictures of the groups come first, then the first one of each run, the second one, ….

        Args:
            limit: largest total size of the pictures [bytes].
        """
        runs = [run for group in self.groups for run in group.runs]
        by_rank = chain.from_iterable(zip_longest(*(run.pictures for run in runs)))
        in_order = [*(picture for group in self.groups for picture in group.pictures), *filter(None, by_rank)]
        sizes = accumulate(picture.n_bytes for picture in in_order)
        kept = {id(picture) for picture, size in zip(in_order, sizes, strict=True) if size <= limit}
        if len(kept) == len(in_order):
            return self

        def limited(section: Section) -> Section:
            return replace(section, pictures=[picture for picture in section.pictures if id(picture) in kept])

        groups = [replace(limited(group), runs=[limited(run) for run in group.runs]) for group in self.groups]
        remark = f"Pictures left out to keep this page small: {len(in_order) - len(kept)}. details=N shows fewer runs."
        return replace(self, groups=groups, remarks=[*self.remarks, remark])


def _data_url(png: bytes) -> str:
    """Return a PNG as a data URL, as WebP if that is smaller; pictures of many colours lose some detail."""
    forms = [(png, "png")]
    if image := open_png(png):
        for options in ({"lossless": True}, {"quality": 90}):
            webp = io.BytesIO()
            image.save(webp, "WEBP", **options)
            forms.append((webp.getvalue(), "webp"))
    content, kind = min(forms, key=lambda form: len(form[0]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


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
        format_value=format_value,
        json=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        links=lambda value: value if isinstance(value, list) else [value] if isinstance(value, Link) else [],
    )
    return environment.get_template("page.html")
