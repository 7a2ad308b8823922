"""`mixgan list`: the runs in a folder with their state, what differs between them, and their metrics."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli.config.commands import ListCommand
from mixgan_cli.config.parse import parse
from mixgan_cli.errors import ConfigError, nearest
from mixgan_cli.reporting.read_run import find_runs, read_curves, read_results
from mixgan_cli.reporting.sweep_table import Entry, SweepTable
from mixgan_cli.reporting.tables import align, format_value
from mixgan_cli.runs import RunFolder

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any] | None:
    """Print the table for people, and return the rows for programs: if `json` is true or stdout is not a terminal.

    Raises:
        ConfigError: the runs have no such column to sort by.
        RunError: there are no runs.
    """
    settings: ListCommand = parse(config, ListCommand)
    sort = settings.sort
    jobs, remarks = find_runs([Path(path) for path in settings.paths])
    table, unread = SweepTable.readable([job for job in jobs if job.run_dir])
    rows = [_row(table, entry) for entry in table.entries]
    if sort:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        if sort not in columns:
            hint = nearest(sort, columns)
            raise ConfigError(f"sort={sort}: no such column.{hint} There are {', '.join(columns)}")
        rows.sort(key=lambda row: _sort_key(row[sort]), reverse=settings.descending)
        rows.sort(key=lambda row: row[sort] is None)  # what is missing comes last in both directions
    for remark in [*remarks, *unread]:
        log.warning("warning: %s", remark)
    if not settings.json_:
        shown = dict.fromkeys(["run", "state", *([sort] if sort else []), *rows[0]])
        texts = [{key: format_value(row[key]) for key in shown} for row in rows]
        log.info("%s", "\n".join(align(texts, shutil.get_terminal_size((120, 24)).columns, "with --json")))
    return {"runs": rows} if settings.json_ or not sys.stdout.isatty() else None


def _row(table: SweepTable, entry: Entry) -> dict[str, Any]:
    folder = entry.job.run
    values = {key: _typed(entry.job.values.get(key)) for key in table.keys}
    metrics = {name: entry.metrics.get(name) for name in table.main_metrics}
    names = table.names_of(entry)
    rest = {**names, "state": folder.state, "images": _images(folder), **values, "hash": entry.hash, **metrics}
    return {"run": str(folder.path), **rest}


def _images(folder: RunFolder) -> int:
    """Return the images shown, by the results or, in a run without them, by the log."""
    nimg = read_results(folder).run.get("nimg")
    if isinstance(nimg, int):
        return nimg
    curves: Mapping[str, Any] = read_curves(folder.metrics)
    return int(max((points[-1][0] for points in curves.values()), default=0))


def _sort_key(value: Any) -> tuple[float, str]:
    """Return a key that sorts numbers by size, then text."""
    return (float(value), "") if isinstance(value, (int, float)) else (float("inf"), str(value))


def _typed(text: str | None) -> Any:
    """Return the number, list, true or false that the value of a key is; otherwise its text."""
    try:
        return json.loads(text, parse_constant=str) if text else text
    except ValueError:
        return text
