"""`mixgan report`: write an HTML page about runs and sweeps, with its tables and plots as files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli.api import load
from mixgan_cli.config.commands import ReportCommand
from mixgan_cli.config.keys import flatten_keys
from mixgan_cli.config.parse import parse
from mixgan_cli.errors import ConfigError, UserError, error_summary, nearest
from mixgan_cli.evaluation.metrics.registry import find_metrics, glossary, is_deviation
from mixgan_cli.reporting.group_section import group_section, split_by_protocol
from mixgan_cli.reporting.page import GroupSection, Page, PageTable, RunSection
from mixgan_cli.reporting.plots.mixture import CAPTIONS, mixture_plots
from mixgan_cli.reporting.plots.save import save_figure
from mixgan_cli.reporting.published import published_tables
from mixgan_cli.reporting.read_run import find_runs
from mixgan_cli.reporting.run_section import run_section
from mixgan_cli.reporting.statistics_tables import (
    GLOSSARY,
    StatisticsTable,
    matches,
    measured_configurations,
    statistics_tables,
)
from mixgan_cli.reporting.sweep_table import Entry, SweepTable
from mixgan_cli.reporting.tables import write_tables
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.outputs import output_folder
from mixgan_cli.runtime.reading import inside, read_text, real_path
from mixgan_cli.sweeps.sweep import Job

log = logging.getLogger("mixgan")

PAGE = "index.html"


def run(config: DictConfig) -> dict[str, Any]:
    """Write the page, and return its path.

    Raises:
        ConfigError: no run has the metrics or the values of the baseline.
        RunError: there is no run in these paths, or the only run cannot be read.
    """
    settings: ReportCommand = parse(config, ReportCommand)
    paths = [Path(path) for path in settings.paths]
    jobs, remarks = find_runs(paths)  # before anything is written, because a path may be mistyped
    remarks += _import_own_metrics(jobs, settings.trusted)
    table, unread = SweepTable.readable(jobs)
    to = Path(settings.to) if settings.to else _default_folder(paths)
    groups = split_by_protocol(table)
    baseline = settings.baseline or {}
    _check_comparison(table, settings.metrics, baseline)
    statistics = [statistics_tables(group, settings.metrics, baseline) for group in groups]
    with output_folder(to, _is_older, settings.force) as folder:
        tables, plots = folder / "tables", folder / "figures"
        sections, failed = _sections(table, _best_of_each(groups, settings.details), settings, plots)
        if len(table.entries) > 1:
            _write_tables(table, tables)
        for number, of_group in enumerate(statistics, start=1):
            to_group = tables if len(groups) == 1 else tables / f"group-{number}"
            for each in (each for each in of_group if each.exact):
                write_tables(to_group, each.name, each.formatted, each.exact)
        page = Page(
            title=_title(paths, table),
            groups=_groups(groups, statistics, sections, to, plots, settings.metrics),
            published=_published(table, tables),
            remarks=[*remarks, *unread, *failed, *table.remarks()],
            differences=table.incomparabilities(),
            glossary=glossary(table.metrics) | (GLOSSARY if any(statistics) else {}),
        )
        page.write(folder / PAGE)
    path = to / PAGE
    log.info("%s: %d run%s", path, len(table.entries), "" if len(table.entries) == 1 else "s")
    written = {name: str(to / name) for name in ("tables", "figures") if (to / name).is_dir()}
    return {"page": str(path), "runs": len(table.entries), **written}


def _is_older(file: Path) -> bool:
    """Return whether a file is in the folder of a page that mixgan wrote."""
    page = next((each / PAGE for each in file.parents if (each / PAGE).is_file()), None)
    return page is not None and '<meta name="generator" content="mixgan ' in read_text(page, page.parent)[:4000]


def _import_own_metrics(jobs: Sequence[Job], trusted: Sequence[str]) -> list[str]:
    """Import the metrics of other packages that the runs name, if these are trusted; return remarks on the others."""
    configs = [job.run.read_config() for job in jobs if job.run_dir and job.run.config.is_file()]
    values = [flatten_keys(config).get(f"evaluation.{key}metrics") for config in configs for key in ("", "interim.")]
    remarks = []
    for name in dict.fromkeys(str(name) for names in values if isinstance(names, list) for name in names):
        if "." not in name:
            continue
        try:
            find_metrics([name], trusted)
        except ConfigError as error:
            remarks.append(f"{name}: its values are shown without direction, rank and meaning ({error})")
    return remarks


def _sections(
    table: SweepTable, entries: Sequence[Entry], settings: ReportCommand, plots: Path
) -> tuple[dict[str, RunSection], list[str]]:
    """Return sections of runs by the run's folder, and a remark for each run whose section cannot be written."""
    sections, remarks = {}, []
    compute = resolve_hardware(settings.hardware)
    for number, entry in enumerate(entries, start=1):
        folder = entry.job.run
        to = plots / f"{number}-{folder.path.name}"
        try:
            drawn = _draw_missing(folder, to, settings, compute)
            sections[f"{entry.job.run_dir}"] = run_section(folder, table.name_of(entry), number, to, drawn)
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
    except OSError:
        raise
    except Exception as error:  # a user's own component may not support every analysis
        log.warning("warning: %s: plots could not be drawn (%s)", folder.path, error_summary(error))
    return drawn


def _write_tables(table: SweepTable, folder: Path) -> None:
    """Write the tables of all runs as files: configurations and runs."""
    left_out = ("exit_code",) if len(table.protocols) > 1 else ("exit_code", "protocol")
    all_runs = table.by_job()
    runs = [
        {key: value for key, value in row.items() if key not in left_out and not is_deviation(key)} for row in all_runs
    ]
    write_tables(folder, "configurations", table.formatted(), table.by_configuration())
    write_tables(folder, "runs", runs, all_runs)


def _check_comparison(table: SweepTable, metrics: Sequence[str] | None, baseline: Mapping[str, str]) -> None:
    """Check what the user named for the statistics.

    Raises:
        ConfigError: no run has such a metric, or no configuration these values.
    """
    for name in metrics or ():
        if name not in table.metrics:
            raise ConfigError(
                f"metrics={name}: no run has this metric.{nearest(name, table.metrics)} "
                + (f"Known: {', '.join(table.metrics)}" if table.metrics else "No run here has finished")
            )
    all_of = measured_configurations(table)
    if baseline and not any(matches(each, baseline) for each in all_of):
        given = ", ".join(f"{key}={value}" for key, value in baseline.items())
        known = {key: dict.fromkeys(f"{each.keys[key]}" for each in all_of) for key in table.keys if key != "seed"}
        raise ConfigError(
            f"baseline: no configuration has {given}. Keys that vary: "
            + ("; ".join(f"{key} ({', '.join(values)})" for key, values in known.items()) or "none")
        )


def _groups(
    tables: Sequence[SweepTable],
    statistics: Sequence[Sequence[StatisticsTable]],
    sections: Mapping[str, RunSection],
    to: Path,
    plots: Path,
    metrics: Sequence[str] | None,
) -> list[GroupSection]:
    """Return a section for each group, with its plots in `plots`, or in a folder for each of several groups."""
    folders = [plots if len(tables) == 1 else plots / f"group-{n}" for n in range(1, len(tables) + 1)]
    return [
        group_section(table, number, sections, to, folder, [each.page for each in of_group], metrics)
        for number, (table, of_group, folder) in enumerate(zip(tables, statistics, folders, strict=True), start=1)
    ]


def _best_of_each(tables: Sequence[SweepTable], n: int) -> list[Entry]:
    """Return n entries: the best of each group, then the second best of each, …."""
    by_rank = zip_longest(*(table.best_first() for table in tables))
    return [entry for entries in by_rank for entry in entries if entry is not None][:n]


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
        return real_path(paths[0]).parent / "report"
    return inside(paths[0] / "report", paths[0])


def _title(paths: Sequence[Path], table: SweepTable) -> str:
    names = ", ".join(real_path(path).name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    return names if len(table.entries) == 1 else f"{names}: {len(table.entries)} runs"
