"""The section of the page about one group: the runs of one data set that were measured with one protocol."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mixgan_cli.errors import RunError
from mixgan_cli.evaluation.metrics.registry import is_deviation
from mixgan_cli.evaluation.ranking import best_value
from mixgan_cli.reporting.page import GroupSection, Link, PageTable, Picture, RunSection
from mixgan_cli.reporting.plots.ranking import CAPTION, ranking_plots
from mixgan_cli.reporting.plots.run import upper_left
from mixgan_cli.reporting.plots.save import DARK, save_figure
from mixgan_cli.reporting.plots.sweep import draw_samples, sweep_plots
from mixgan_cli.reporting.read_run import open_png, read_png, sample_pictures
from mixgan_cli.reporting.statistics_tables import compared_metrics, measured_configurations
from mixgan_cli.reporting.sweep_table import Entry, SweepTable
from mixgan_cli.reporting.tables import without_constants
from mixgan_cli.sweeps.sweep import Job

MAX_SAMPLES = 24
"""Configurations whose samples are shown."""
MAX_BEST = 5
"""Rows in a table of best runs."""
KINDS = {"n_fake": "generated", "n_real": "real"}
"""Kinds of samples, by the key of their number in a protocol."""
NOT_SHOWN = ("exit_code", "protocol", "run_dir")
"""Columns of the files that the page leaves out or replaces by a link."""


def split_by_protocol(table: SweepTable) -> list[SweepTable]:
    """Return a table of the runs of each protocol, and so of each data set.

    Runs of which nothing was measured are told apart by their data set. A job without results is in the first group of
    its data set.
    """
    groups: dict[tuple[int | None, str | None], list[Job]] = {}
    of_data: dict[str | None, tuple[int | None, str | None]] = {}
    for entry in sorted(table.entries, key=lambda entry: entry.protocol is None):  # those with results first
        data = _data_of(entry.job)
        measured = entry.protocol is not None and "reals" in table.protocols[entry.protocol - 1]
        key = (entry.protocol, None if measured else data)
        if entry.protocol is None:
            key = of_data.get(data, key)
        of_data.setdefault(data, key)
        groups.setdefault(key, []).append(entry.job)
    return [SweepTable(jobs) for jobs in groups.values()]


def group_section(
    table: SweepTable,
    number: int,
    sections: Mapping[str, RunSection],
    page: Path,
    figures: Path,
    statistics: Sequence[PageTable] = (),
    metrics: Sequence[str] | None = None,
) -> GroupSection:
    """Return the section of a group.

    Args:
        table: the runs of one protocol.
        number: the group's position on the page, from 1.
        sections: the sections of single runs, by the run's folder.
        page: the folder of the page, from which links start.
        figures: folder to write plots to.
        statistics: tables of statistics about the group.
        metrics: those to rank configurations by; None: those that rank runs.
    """
    links: dict[str | None, Link] = {
        entry.job.run_dir: Link(
            entry.job.run.path.name,
            f"#{sections[entry.job.run_dir].anchor}"
            if entry.job.run_dir in sections
            else quote(os.path.relpath(entry.job.run.path, page)),
        )
        for entry in table.entries
        if entry.job.run_dir
    }
    return GroupSection(
        f"group-{number}",
        group_title(table),
        len(table.entries),
        _tables(table, links, statistics),
        _pictures(table, figures, metrics),
        [section for run_dir, section in sections.items() if run_dir in links],
    )


def group_title(table: SweepTable) -> str:
    """Return the data sets of a group, and how its runs were measured."""
    names = ", ".join(dict.fromkeys(_data_of(entry.job) or "unknown data set" for entry in table.entries))
    protocol = table.protocols[0] if table.protocols else {}
    counts = " and ".join(f"{protocol[key]:,} {kind}" for key, kind in KINDS.items() if _is_count(protocol.get(key)))
    return ", ".join([names, *([f"protocol {protocol['name']}"] if "name" in protocol else [])]) + (
        f" ({counts} samples)" if counts else ""
    )


def _tables(table: SweepTable, links: Mapping[str | None, Link], statistics: Sequence[PageTable]) -> list[PageTable]:
    """Return the tables of a group: its configurations, best runs, statistics and all runs, with links to the runs."""
    grouped, by_job = table.grouped(), table.by_job()
    repeated = any(row["done"] > 1 for row, _ in grouped)
    runs = [
        {
            "run": links.get(row["run_dir"]),
            **{key: value for key, value in row.items() if key not in NOT_SHOWN and not is_deviation(key)},
        }
        for row in by_job
    ]
    title = "Configurations, mean ± standard deviation over seeds" if repeated else "Configurations"
    configurations = [
        {**row, "hash": exact["hash"], "runs": [_with_seed(entry, links) for entry in sorted(entries, key=_seed)]}
        for row, (exact, entries) in zip(table.formatted(), grouped, strict=True)
    ]
    tables = [_table(title, configurations), *_best_runs(table, links), *statistics]
    if len(runs) > len(configurations):
        tables.append(_table("All runs", runs, folded=True))
    return tables


def _table(title: str, rows: Sequence[Mapping[str, Any]], folded: bool = False) -> PageTable:
    varying, constants = without_constants(rows)
    return PageTable(title, varying, folded=folded, constants=constants)


def _best_runs(table: SweepTable, links: Mapping[str | None, Link]) -> list[PageTable]:
    """Return a table of the best runs, if there are several with results."""
    entries = [entry for entry in table.best_first() if entry.protocol is not None]
    metrics = table.ranking_metrics(1)[:3]
    if len(entries) < 2 or not metrics:
        return []
    rows = [
        {
            "run": Link(table.name_of(entry), links[entry.job.run_dir].href),
            **{name: entry.metrics.get(name) for name in metrics},
        }
        for entry in entries[:MAX_BEST]
    ]
    then = f", then {', '.join(metrics[1:])}" if len(metrics) > 1 else ""
    return [_table(f"Best runs by {metrics[0]} (best: {best_value(metrics[0])}){then}", rows)]


def _seed(entry: Entry) -> tuple[int, str]:
    """Return the seed of a run as a key that sorts numbers by size."""
    seed = entry.job.values.get("seed", "")
    return len(seed), seed


def _with_seed(entry: Entry, links: Mapping[str | None, Link]) -> Link:
    """Return a link to a run that is called by its seed."""
    seed = entry.job.values.get("seed")
    return Link("run" if seed is None else f"seed {seed}", links[entry.job.run_dir].href)


def _pictures(table: SweepTable, folder: Path, metrics: Sequence[str] | None) -> list[Picture]:
    """Draw the samples of each configuration, their order by some metrics, and each metric over what was swept."""
    repeated = any(row["done"] > 1 for row in table.by_configuration())
    caption = "Mean and standard deviation over seeds." if repeated else "One run per configuration."
    samples, n = _samples(table)
    shown = "" if n == len(samples) else f" {len(samples)} of {n} configurations."
    of_samples = f"The last ones of fixed latents, of one run per configuration.{shown}"
    drawn = [("samples", "Samples", of_samples, draw_samples(samples))] if len(samples) > 1 else []
    rankings = ranking_plots(measured_configurations(table), compared_metrics(table, metrics))
    drawn += [(f"ranking_{name}", f"Ranking by {name}", CAPTION, figure) for name, figure in rankings]
    drawn += [(name, name, caption, figure) for name, figure in sweep_plots(table)]
    pictures = []
    for name, title, text, figure in drawn:
        path = save_figure(figure, folder, name)
        pictures.append(Picture(title, text, path.read_bytes(), (path.parent / DARK / path.name).read_bytes()))
    return pictures


def _samples(table: SweepTable) -> tuple[dict[str, np.ndarray], int]:
    """Return a picture of samples for some configurations, by what differs, and the number that have one."""
    keys = [key for key in table.keys if key != "seed"]
    found: dict[str, Path] = {}
    for _, entries in table.grouped():
        for entry in entries:
            name = ", ".join(f"{key}={entry.job.values[key]}" for key in keys if entry.job.values.get(key) is not None)
            if (pictures := sample_pictures(entry.job.run)) and name not in found:
                found[name] = pictures[-1]
    shown = {}
    for name, path in list(found.items())[:MAX_SAMPLES]:
        with suppress(RunError):  # the other pictures are shown
            content = read_png(path, path.parents[1])
            if content and (image := open_png(content)):
                shown[name] = np.asarray(upper_left(image.convert("RGB"), path.parent))
    return shown, len(found)


def _is_count(value: Any) -> bool:
    """Return whether a value of a protocol, which may come from anyone, is a number of samples."""
    return isinstance(value, int) and not isinstance(value, bool)


def _data_of(job: Job) -> str | None:
    """Return the name of a job's data set, by its run's configuration or else by its overrides; None if not known."""
    config = job.run.read_config() if job.run_dir and job.run.config.is_file() else {}
    name = (config.get("data") or {}).get("name")
    return job.values.get("data") if name is None else str(name)
