"""`mixgan report`: a page about a run, a sweep or several, with its tables and figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli import hardware
from mixgan_cli.config import ReportCommand, parse
from mixgan_cli.errors import UserError
from mixgan_cli.evaluation.protocol import differences
from mixgan_cli.evaluation.ranking import deciding
from mixgan_cli.files import inside, refusing
from mixgan_cli.hardware import Compute
from mixgan_cli.models.load import load
from mixgan_cli.reporting import figures, swept
from mixgan_cli.reporting.besides import beside
from mixgan_cli.reporting.gathering import gather
from mixgan_cli.reporting.page import Page, Picture, TableOf
from mixgan_cli.reporting.portrait import portrait
from mixgan_cli.reporting.sweep import Entry, Row, Table
from mixgan_cli.reporting.tables import write_tables
from mixgan_cli.runs import RunFolder

log = logging.getLogger("mixgan")

WORST = float("inf")


def run(config: DictConfig) -> dict[str, Any]:
    """Write the page, and return where it is."""
    settings: ReportCommand = parse(config, ReportCommand)
    compute = hardware.resolve(settings.hardware)
    paths = [Path(path) for path in settings.paths]
    table = Table(gather(paths), differences)
    to = Path(settings.to) if settings.to else _place(paths)
    ranked = sorted((entry for entry in table.entries if entry.job.run_dir), key=_badness)
    detailed = ranked[: settings.details]
    with refusing(f"to={to}"):
        page = Page(
            title=_title(paths, table),
            tables=_tables(table, ranked, to / "tables"),
            pictures=_swept(table, to / "figures"),
            published=_published(table, to / "tables"),
            runs=[
                portrait(entry.job.run, name_of(entry, table), drawn(entry.job.run, to / "figures", settings, compute))
                for entry in detailed
            ],
            remarks=table.remarks(),
        )
        path = page.write(to / "index.html")
    log.info("%s: %d runs", path, len(table.entries))
    return {"page": str(path), "runs": len(table.entries), "tables": str(to / "tables"), "figures": str(to / "figures")}


def drawn(folder: RunFolder, figures_of: Path, settings: ReportCommand, compute: Compute) -> Path:
    """Return the page's own folder for figures of a run, with what it learned, where it has not drawn that itself.

    In the plane the tree by level takes data, which a page has not.
    """
    to = figures_of / folder.path.name
    there = any((folder.figures / f"{name}.png").is_file() for name in figures.CAPTIONS)
    if not folder.generator.is_file() or (there and not settings.redraw):
        return to
    try:
        sampler = load(folder.path, settings.trusted)
        compute.place(sampler)
        for name, figure in figures.figures(sampler, None, folder.read_config()["seed"]):
            figures.save(figure, to, name)
    except UserError as error:
        log.warning("warning: %s: its figures could not be drawn (%s)", folder.path, error)
    return to


def _place(paths: Sequence[Path]) -> Path:
    """Return where the page goes: into the one path, or into the folder above the first."""
    if len(paths) > 1:
        return paths[0].resolve().parent / "report"
    return inside(paths[0] / "report", paths[0])


def name_of(entry: Entry, table: Table) -> str:
    """Return what tells a run from the others; of a single one, its folder's name."""
    values = {key: entry.job.values.get(key) for key in table.keys}
    return ", ".join(f"{key}={value}" for key, value in values.items() if value is not None) or entry.job.run.path.name


def _tables(table: Table, ranked: Sequence[Entry], folder: Path) -> list[TableOf]:
    """The tables over all runs: of configurations, of the best runs, of all of them."""
    if len(table.entries) == 1:
        return []
    configurations, runs = table.shown(), [_shortened(row) for row in table.by_job()]
    write_tables(folder, "configurations", configurations, table.by_configuration())
    write_tables(folder, "runs", runs, table.by_job())
    tables = [TableOf("Configurations, mean ± standard deviation over seeds", configurations)]
    best = [_as_best(entry, table) for entry in ranked[:5] if deciding(entry.metrics)]
    if len(best) > 1:
        tables.append(TableOf("The best runs", best, ["By the first metric that was measured; within one protocol."]))
    if len(runs) > len(configurations):
        tables.append(TableOf("All runs", runs))
    return tables


def _swept(table: Table, folder: Path) -> list[Picture]:
    pictures = []
    for metric, figure in swept.figures(table):
        figures.save(figure, folder, metric)
        pictures.append(Picture(metric, "Mean and standard deviation over seeds.", figures.as_png(figure)))
    return pictures


def _published(table: Table, folder: Path) -> list[TableOf]:
    """What the papers report for the same data, and ours."""
    tables = []
    for data, rows, remarks in beside(table):
        write_tables(folder, f"published_{data}", rows, rows)
        tables.append(TableOf(data, rows, remarks))
    return tables


def _badness(entry: Entry) -> tuple[bool, int, str, float]:
    """By protocol, and within it by the metric that decides, the best first; what was not measured comes last."""
    metric, _, badness = deciding(entry.metrics) or ("", 0.0, WORST)
    return entry.protocol is None, entry.protocol or 0, metric, badness


def _as_best(entry: Entry, table: Table) -> Row:
    figure = deciding(entry.metrics)
    assert figure is not None
    metric, value, _ = figure
    protocol = {"protocol": entry.protocol} if len(table.protocols) > 1 else {}
    return {"run": name_of(entry, table), **protocol, metric: value, "folder": entry.job.run_dir}


def _shortened(row: Row) -> Row:
    """A row without what is nowhere of interest to people."""
    return {
        key: value for key, value in row.items() if key not in ("exit_code", "protocol") and not key.endswith("_std")
    }


def _title(paths: Sequence[Path], table: Table) -> str:
    names = ", ".join(path.resolve().name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    return names if len(table.entries) == 1 else f"{names}: {len(table.entries)} runs"
