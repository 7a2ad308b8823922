"""`mixgan report`: a page about a run, a sweep or several, with its tables and figures."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli.api import load
from mixgan_cli.config.schema import ReportCommand, parse
from mixgan_cli.errors import ConfigError, RunError, UserError
from mixgan_cli.evaluation.metrics.registry import find_metrics, glossary, is_deviation
from mixgan_cli.evaluation.protocol import differences
from mixgan_cli.evaluation.ranking import best_value, ranked
from mixgan_cli.reporting import figures, swept
from mixgan_cli.reporting.besides import beside
from mixgan_cli.reporting.gathering import gather
from mixgan_cli.reporting.page import Page, Picture, RunPage, TableOf
from mixgan_cli.reporting.portrait import portrait
from mixgan_cli.reporting.sweep import Entry, Row, Table
from mixgan_cli.reporting.tables import write_tables
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.io import error_summary, inside, write_errors
from mixgan_cli.sweeps.sweep import Job

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any]:
    """Write the page, and return where it is.

    Raises:
        RunError: there is no run in these paths, or it cannot be read.
    """
    settings: ReportCommand = parse(config, ReportCommand)
    paths = [Path(path) for path in settings.paths]
    jobs, remarks = gather(paths)  # first: a slip in a path is told at once
    remarks += _find_own_metrics(jobs, settings.trusted)
    table, unread = _table(jobs)
    to = Path(settings.to) if settings.to else _place(paths)
    with write_errors(f"to={to}"):
        to.mkdir(parents=True, exist_ok=True)
    tables, pictures = inside(to / "tables", to), inside(to / "figures", to)
    best_first = by_rank(table)
    portraits, untold = _portraits(best_first[: settings.details], table, settings, pictures)
    with write_errors(f"to={to}"):
        page = Page(
            title=_title(paths, table),
            tables=_tables(table, best_first, tables),
            pictures=_swept(table, pictures),
            published=_published(table, tables),
            runs=portraits,
            remarks=[*remarks, *unread, *untold, *table.remarks()],
            glossary=glossary(table.metrics),
        )
        path = page.write(to / "index.html")
    log.info("%s: %d run%s", path, len(table.entries), "" if len(table.entries) == 1 else "s")
    written = {name: str(folder) for name, folder in {"tables": tables, "figures": pictures}.items() if folder.is_dir()}
    return {"page": str(path), "runs": len(table.entries), **written}


def _find_own_metrics(jobs: Sequence[Job], trusted: Sequence[str]) -> list[str]:
    """Import the metrics of other packages that the runs name, if these are trusted; return remarks on the others."""
    configs = [job.run.read_config() for job in jobs if job.run_dir and job.run.config.is_file()]
    protocols = [config.get("evaluation") or {} for config in configs]
    listed = [each.get("metrics") for protocol in protocols for each in (protocol, protocol.get("interim") or {})]
    remarks = []
    for name in dict.fromkeys(str(name) for names in listed for name in names or () if "." in str(name)):
        try:
            find_metrics([name], trusted)
        except ConfigError as error:
            remarks.append(f"{name}: its values are shown without direction, rank and meaning ({error})")
    return remarks


def _table(jobs: Sequence[Job]) -> tuple[Table, list[str]]:
    """The table of those jobs whose results can be read, and what is to be said of the others."""
    readable, remarks = [], []
    for job in jobs:
        try:
            Table([job], differences)
            readable.append(job)
        except UserError as error:
            if len(jobs) == 1:
                raise
            remarks.append(f"left out: {error}")
    return Table(readable, differences), remarks


def _portraits(
    entries: Sequence[Entry], table: Table, settings: ReportCommand, pictures: Path
) -> tuple[list[RunPage], list[str]]:
    """These runs in detail, and what is to be said of those that cannot be told."""
    told, remarks = [], []
    compute = resolve_hardware(settings.hardware)
    for number, entry in enumerate(entries, start=1):
        run = entry.job.run
        to = inside(pictures / f"{number}-{run.path.name}", pictures)
        try:
            drawn = _drawn(run, to, settings, compute)
            told.append(portrait(run, name_of(entry, table), number, to, drawn))
        except UserError as error:
            if len(entries) == 1:
                raise
            remarks.append(f"not told in detail: {error}")
    return told, remarks


def _drawn(folder: RunFolder, to: Path, settings: ReportCommand, compute: Compute) -> dict[str, Path]:
    """Draw what a run learned for the page, where it has not drawn that itself, and return where each figure is.

    In the plane the tree by level takes data, which a page has not.
    """
    there = any((folder.figures / f"{name}.png").is_file() for name in figures.CAPTIONS)
    if not folder.generator.is_file() or (there and not settings.redraw):
        return {}
    drawn: dict[str, Path] = {}
    try:
        sampler = load(folder.path, settings.trusted)
        compute.place(sampler)
        for name, figure in figures.figures(sampler, None, folder.read_config()["seed"]):
            drawn[name] = figures.save(figure, to, name)
    except OSError as error:
        raise RunError(f"to={to}: cannot be written ({error_summary(error)})") from error
    except Exception as error:  # a part of a user's own may not stand it
        log.warning("warning: %s: figures could not be drawn (%s)", folder.path, error_summary(error))
    return drawn


def _place(paths: Sequence[Path]) -> Path:
    """Return where the page goes: into the one path, or into the folder above the first."""
    if len(paths) > 1:
        return paths[0].resolve().parent / "report"
    return inside(paths[0] / "report", paths[0])


def name_of(entry: Entry, table: Table) -> str:
    """Return what tells a run from the others; of a single one, its folder's name."""
    values = {key: entry.job.values.get(key) for key in table.keys}
    return ", ".join(f"{key}={value}" for key, value in values.items() if value is not None) or entry.job.run.path.name


def by_rank(table: Table) -> list[Entry]:
    """Return the runs that have a folder, protocol by protocol, the best first by the metrics that decide.

    A run that lacks a metric that others of its protocol have comes after them.
    """
    there = [entry for entry in table.entries if entry.job.run_dir and entry.job.run.config.is_file()]
    values = {id(entry): {name: value for name, _, value in ranked(entry.metrics)} for entry in there}
    order = {number: _decide(table, number) for number in {entry.protocol for entry in there}}
    return sorted(
        there,
        key=lambda entry: (
            entry.protocol is None,
            entry.protocol or 0,
            [values[id(entry)].get(name, math.inf) for name in order[entry.protocol]],
        ),
    )


def _decide(table: Table, protocol: int | None) -> list[str]:
    """The metrics by which runs of a protocol compare, the deciding one first: of all that some run has."""
    metrics = {name: value for of in table.entries if of.protocol == protocol for name, value in of.metrics.items()}
    return [name for name, _, _ in ranked(metrics)]


def _tables(table: Table, best_first: Sequence[Entry], folder: Path) -> list[TableOf]:
    """The tables over all runs: of configurations, of the best runs, of all of them."""
    if len(table.entries) == 1:
        return []
    left_out = ("exit_code",) if len(table.protocols) > 1 else ("exit_code", "protocol")
    configurations, runs = table.shown(), [_shortened(row, left_out) for row in table.by_job()]
    write_tables(folder, "configurations", configurations, table.by_configuration())
    write_tables(folder, "runs", runs, table.by_job())
    repeated = any(row["done"] > 1 for row in configurations)
    title = "Configurations, mean ± standard deviation over seeds" if repeated else "Configurations"
    tables = [TableOf(title, configurations)]
    tables += _best(table, best_first)
    if len(runs) > len(configurations):
        tables.append(TableOf("All runs", runs))
    return tables


def _swept(table: Table, folder: Path) -> list[Picture]:
    pictures = []
    repeated = any(row["done"] > 1 for row in table.by_configuration())
    told = "Mean and standard deviation over seeds." if repeated else "One run each."
    for metric, figure in swept.figures(table):
        pictures.append(Picture(metric, told, figures.save(figure, folder, metric).read_bytes()))
    return pictures


def _published(table: Table, folder: Path) -> list[TableOf]:
    """What the papers report for the same data, and ours."""
    tables = []
    for data, rows, published, remarks in beside(table):
        write_tables(folder, f"beside_{data}", rows, rows)
        write_tables(folder, f"published_{data}", published, published)
        tables.append(TableOf(f"{data}: ours beneath what is published of the same model", rows, remarks))
        tables.append(TableOf(f"{data}: all that is published", published, folded=True))
    return tables


def _best(table: Table, best_first: Sequence[Entry], most: int = 5) -> list[TableOf]:
    """The best runs of each protocol that several have, by the metric that decides; among equals by the next."""
    tables = []
    for number in range(1, len(table.protocols) + 1):
        entries, decide = [entry for entry in best_first if entry.protocol == number], _decide(table, number)[:3]
        if len(entries) < 2 or not decide:
            continue
        rows = [
            {"run": name_of(of, table), **{name: of.metrics.get(name) for name in decide}, "folder": of.job.run_dir}
            for of in entries[:most]
        ]
        of_protocol = f" of protocol {number}" if len(table.protocols) > 1 else ""
        then = f", then {', '.join(decide[1:])}" if len(decide) > 1 else ""
        tables.append(TableOf(f"The best runs{of_protocol} by {decide[0]} (best: {best_value(decide[0])}){then}", rows))
    return tables


def _shortened(row: Row, left_out: tuple[str, ...]) -> Row:
    """A row without what is of no interest to people."""
    return {key: value for key, value in row.items() if key not in left_out and not is_deviation(key)}


def _title(paths: Sequence[Path], table: Table) -> str:
    names = ", ".join(path.resolve().name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    return names if len(table.entries) == 1 else f"{names}: {len(table.entries)} runs"
