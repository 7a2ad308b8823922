"""`mixgan report`: write an HTML page about runs and sweeps, with its tables and plots as files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli.api import load
from mixgan_cli.config.schema import ReportCommand, parse
from mixgan_cli.errors import ConfigError, RunError, UserError
from mixgan_cli.evaluation.metrics.registry import find_metrics, glossary, is_deviation
from mixgan_cli.evaluation.ranking import best_value
from mixgan_cli.reporting.page import Page, PageTable, Picture, RunSection
from mixgan_cli.reporting.plots.mixture import CAPTIONS, mixture_plots
from mixgan_cli.reporting.plots.run import save_figure
from mixgan_cli.reporting.plots.sweep import sweep_plots
from mixgan_cli.reporting.published import published_tables
from mixgan_cli.reporting.read_run import find_runs
from mixgan_cli.reporting.run_section import run_section
from mixgan_cli.reporting.sweep_table import Entry, SweepTable
from mixgan_cli.reporting.tables import write_tables
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.io import error_summary, inside, write_errors
from mixgan_cli.sweeps.sweep import Job

log = logging.getLogger("mixgan")

MAX_BEST = 5
"""Rows in a table of best runs."""


def run(config: DictConfig) -> dict[str, Any]:
    """Write the page, and return its path.

    Raises:
        RunError: there is no run in these paths, or the only run cannot be read.
    """
    settings: ReportCommand = parse(config, ReportCommand)
    paths = [Path(path) for path in settings.paths]
    jobs, remarks = find_runs(paths)  # before anything is written, because a path may be mistyped
    remarks += _import_own_metrics(jobs, settings.trusted)
    table, unread = SweepTable.readable(jobs)
    to = Path(settings.to) if settings.to else _default_folder(paths)
    with write_errors(f"to={to}"):
        to.mkdir(parents=True, exist_ok=True)
    tables, plots = inside(to / "tables", to), inside(to / "figures", to)
    sections, failed = _sections(table, settings, plots)
    with write_errors(f"to={to}"):
        page = Page(
            title=_title(paths, table),
            tables=_tables(table, tables),
            pictures=_sweep_pictures(table, plots),
            published=_published(table, tables),
            runs=sections,
            remarks=[*remarks, *unread, *failed, *table.remarks()],
            glossary=glossary(table.metrics),
        )
        path = page.write(to / "index.html")
    log.info("%s: %d run%s", path, len(table.entries), "" if len(table.entries) == 1 else "s")
    written = {name: str(folder) for name, folder in {"tables": tables, "figures": plots}.items() if folder.is_dir()}
    return {"page": str(path), "runs": len(table.entries), **written}


def _import_own_metrics(jobs: Sequence[Job], trusted: Sequence[str]) -> list[str]:
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


def _sections(table: SweepTable, settings: ReportCommand, plots: Path) -> tuple[list[RunSection], list[str]]:
    """Return a section for each of the best runs, and a remark for each run whose section cannot be written."""
    sections, remarks = [], []
    entries = table.best_first()[: settings.details]
    compute = resolve_hardware(settings.hardware)
    for number, entry in enumerate(entries, start=1):
        folder = entry.job.run
        to = inside(plots / f"{number}-{folder.path.name}", plots)
        try:
            drawn = _draw_missing(folder, to, settings, compute)
            sections.append(run_section(folder, table.name_of(entry), number, to, drawn))
        except UserError as error:
            if len(entries) == 1:
                raise
            remarks.append(f"without a section of its own: {error}")
    return sections, remarks


def _draw_missing(folder: RunFolder, to: Path, settings: ReportCommand, compute: Compute) -> dict[str, Path]:
    """Draw what a mixture learned if the run has not drawn it itself, and return the plots' paths by name.

    The tree by level of a data set in the plane needs the data, which a report does not load.
    """
    drawn_by_run = any((folder.figures / f"{name}.png").is_file() for name in CAPTIONS)
    has_state = folder.generator.is_file() or folder.checkpoint("last").is_file()
    if not has_state or (drawn_by_run and not settings.redraw and settings.checkpoint is None):
        return {}
    drawn: dict[str, Path] = {}
    try:
        sampler = load(folder.path, settings.trusted, settings.checkpoint)
        compute.place(sampler)
        for name, figure in mixture_plots(sampler, None, folder.read_config()["seed"]):
            drawn[name] = save_figure(figure, to, name)
    except OSError as error:
        raise RunError(f"to={to}: cannot be written ({error_summary(error)})") from error
    except Exception as error:  # a user's own component may not support every analysis
        log.warning("warning: %s: plots could not be drawn (%s)", folder.path, error_summary(error))
    return drawn


def _tables(table: SweepTable, folder: Path) -> list[PageTable]:
    """Write and return the tables over all runs: configurations, best runs, all runs."""
    if len(table.entries) == 1:
        return []
    left_out = ("exit_code",) if len(table.protocols) > 1 else ("exit_code", "protocol")
    exact, all_runs = table.by_configuration(), table.by_job()
    configurations = table.formatted()
    runs = [
        {key: value for key, value in row.items() if key not in left_out and not is_deviation(key)} for row in all_runs
    ]
    write_tables(folder, "configurations", configurations, exact)
    write_tables(folder, "runs", runs, all_runs)
    repeated = any(row["done"] > 1 for row in exact)
    title = "Configurations, mean ± standard deviation over seeds" if repeated else "Configurations"
    tables = [PageTable(title, configurations), *_best_runs(table)]
    if len(runs) > len(configurations):
        tables.append(PageTable("All runs", runs))
    return tables


def _best_runs(table: SweepTable) -> list[PageTable]:
    """Return a table of the best runs for each protocol that several runs share."""
    ranked, tables = table.best_first(), []
    for protocol in range(1, len(table.protocols) + 1):
        entries = [entry for entry in ranked if entry.protocol == protocol]
        metrics = table.ranking_metrics(protocol)[:3]
        if len(entries) < 2 or not metrics:
            continue
        rows = [_best_row(entry, table, metrics) for entry in entries[:MAX_BEST]]
        of_protocol = f" with protocol {protocol}" if len(table.protocols) > 1 else ""
        then = f", then {', '.join(metrics[1:])}" if len(metrics) > 1 else ""
        tables.append(PageTable(f"Best runs{of_protocol} by {metrics[0]} (best: {best_value(metrics[0])}){then}", rows))
    return tables


def _best_row(entry: Entry, table: SweepTable, metrics: Sequence[str]) -> dict[str, Any]:
    values = {name: entry.metrics.get(name) for name in metrics}
    return {"run": table.name_of(entry), **values, "folder": entry.job.run_dir}


def _sweep_pictures(table: SweepTable, folder: Path) -> list[Picture]:
    repeated = any(row["done"] > 1 for row in table.by_configuration())
    caption = "Mean and standard deviation over seeds." if repeated else "One run per configuration."
    return [
        Picture(metric, caption, save_figure(figure, folder, metric).read_bytes())
        for metric, figure in sweep_plots(table)
    ]


def _published(table: SweepTable, folder: Path) -> list[PageTable]:
    """Write and return the tables of published values: next to ours, and all of them."""
    tables = []
    for data, rows, published, remarks in published_tables(table):
        write_tables(folder, f"comparison_{data}", rows, rows)
        write_tables(folder, f"published_{data}", published, published)
        tables.append(PageTable(f"{data}: published values and ours", rows, remarks))
        tables.append(PageTable(f"{data}: all published values", published, folded=True))
    return tables


def _default_folder(paths: Sequence[Path]) -> Path:
    """Return report/ in the only path, or next to the first of several."""
    if len(paths) > 1:
        return paths[0].resolve().parent / "report"
    return inside(paths[0] / "report", paths[0])


def _title(paths: Sequence[Path], table: SweepTable) -> str:
    names = ", ".join(path.resolve().name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    return names if len(table.entries) == 1 else f"{names}: {len(table.entries)} runs"
