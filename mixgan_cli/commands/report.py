"""`mixgan report`: a page about a run, a sweep or several, with its tables and figures."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli import hardware
from mixgan_cli.config import ReportCommand, parse
from mixgan_cli.errors import UserError
from mixgan_cli.evaluation.protocol import differences
from mixgan_cli.evaluation.ranking import best_is, deciding
from mixgan_cli.evaluation.ranking import ranked as ranked_by
from mixgan_cli.files import inside, refusing
from mixgan_cli.hardware import Compute
from mixgan_cli.models.load import load
from mixgan_cli.reporting import figures, swept
from mixgan_cli.reporting.besides import beside
from mixgan_cli.reporting.gathering import gather
from mixgan_cli.reporting.glossary import glossary
from mixgan_cli.reporting.page import Page, Picture, TableOf
from mixgan_cli.reporting.portrait import portrait
from mixgan_cli.reporting.sweep import Entry, Row, Table
from mixgan_cli.reporting.tables import write_tables
from mixgan_cli.runs import RunFolder

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any]:
    """Write the page, and return where it is."""
    settings: ReportCommand = parse(config, ReportCommand)
    paths = [Path(path) for path in settings.paths]
    table = Table(gather(paths), differences)  # first: a slip in a path is told at once
    compute = hardware.resolve(settings.hardware)
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
            glossary=glossary(table.metrics),
        )
        path = page.write(to / "index.html")
    log.info("%s: %d run%s", path, len(table.entries), "" if len(table.entries) == 1 else "s")
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
    repeated = any(row["done"] > 1 for row in configurations)
    title = "Configurations, mean ± standard deviation over seeds" if repeated else "Configurations"
    tables = [TableOf(title, configurations)]
    tables += _best(table, ranked)
    if len(runs) > len(configurations):
        tables.append(TableOf("All runs", runs))
    return tables


def _swept(table: Table, folder: Path) -> list[Picture]:
    pictures = []
    repeated = any(row["done"] > 1 for row in table.by_configuration())
    told = "Mean and standard deviation over seeds." if repeated else "One run each."
    for metric, figure in swept.figures(table):
        figures.save(figure, folder, metric)
        pictures.append(Picture(metric, told, figures.as_png(figure)))
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


def _badness(entry: Entry) -> tuple[bool, int, tuple[float, ...]]:
    """By protocol, and within it by the metrics that decide, the best first; what was not measured comes last."""
    decide = tuple(badness for _, _, badness in ranked_by(entry.metrics))
    return entry.protocol is None, entry.protocol or 0, decide or (math.inf,)


def _best(table: Table, ranked: Sequence[Entry], most: int = 5) -> list[TableOf]:
    """The best runs of each protocol that several have, by the metric that decides; among equals by the next."""
    tables = []
    for number, _ in enumerate(table.protocols, start=1):
        entries = [entry for entry in ranked if entry.protocol == number and deciding(entry.metrics)]
        if len(entries) < 2:
            continue
        decide = [metric for metric, _, _ in ranked_by(entries[0].metrics)]
        rows = [
            {"run": name_of(entry, table), **{name: entry.metrics.get(name) for name in decide[:3]},
             "folder": entry.job.run_dir}
            for entry in entries[:most]
        ]  # fmt: skip
        of = f" of protocol {number}" if len(table.protocols) > 1 else ""
        then = f", then {', '.join(decide[1:3])}" if len(decide) > 1 else ""
        tables.append(TableOf(f"The best runs{of} by {decide[0]} (best: {best_is(decide[0])}){then}", rows))
    return tables


def _shortened(row: Row) -> Row:
    """A row without what is nowhere of interest to people."""
    return {
        key: value for key, value in row.items() if key not in ("exit_code", "protocol") and not key.endswith("_std")
    }


def _title(paths: Sequence[Path], table: Table) -> str:
    names = ", ".join(path.resolve().name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    return names if len(table.entries) == 1 else f"{names}: {len(table.entries)} runs"
