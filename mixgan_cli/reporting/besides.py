"""Published beside reproduced: for each data set what the papers report, our rows beneath those of the same model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mixgan_cli.composition import name_of_data
from mixgan_cli.reporting.published import Figure, figures, matches, obstacles
from mixgan_cli.reporting.sweep import Entry, Row, Table
from mixgan_cli.reporting.tables import mean_and_sd

OURS = "ours"
"""In the column "of", what marks our rows."""


class Beside(NamedTuple):
    """A data set's table, and what is to be said of its sources."""

    data: str
    rows: list[Row]
    remarks: list[str]


def beside(table: Table) -> Iterator[Beside]:
    """Yield a table for each data set that papers and finished runs have in common.

    A row of ours has mean ± deviation over its seeds, what else was measured, and whether it may be compared with the
    published row of its model, with each reason why not.
    """
    finished = [(row, entries, entries[0].job.run.read_config()) for row, entries in table.grouped() if entries]
    for data in dict.fromkeys(name_of_data(config["data"]) for _, _, config in finished):
        published = figures(data)
        if not published:
            continue
        ours = [one for one in finished if name_of_data(one[2]["data"]) == data]
        metrics = list(dict.fromkeys(figure.metric for figure in published))
        rows: list[Row] = []
        placed: set[int] = set()
        for theirs in _systems(published):
            rows.append(_theirs(theirs, metrics))
            for number, (row, entries, config) in enumerate(ours):
                if matches(theirs[0], config["model"]):
                    rows.append(_ours(row, entries, config, metrics, theirs, table))
                    placed.add(number)
        rows += [
            _ours(row, entries, config, metrics, (), table)
            for number, (row, entries, config) in enumerate(ours)
            if number not in placed
        ]
        sources = dict.fromkeys(figure.source.name for figure in published)
        yield Beside(data, rows, [line for name in sources for line in _said(name, published)])


def _systems(published: Sequence[Figure]) -> list[list[Figure]]:
    """The figures of each system of each source, together."""
    found: dict[tuple[Any, ...], list[Figure]] = {}
    for one in published:
        found.setdefault((one.source.name, one.system, one.size), []).append(one)
    return list(found.values())


def _theirs(of: Sequence[Figure], metrics: Sequence[str]) -> Row:
    first = of[0]
    printed = {figure.metric: figure.printed for figure in of}
    protocol = first.source.protocol_of(first.metric, first.data)
    return {
        "of": first.source.name,
        "system": first.system,
        "K": first.k,
        **{metric: printed.get(metric) for metric in metrics},
        "comparable": None,
        "n": _count(protocol.get("n_fake")),
        "over": first.source.over if any(figure.sd is not None for figure in of) else None,
    }


def _ours(
    row: Row,
    entries: Sequence[Entry],
    config: Mapping[str, Any],
    metrics: Sequence[str],
    theirs: Sequence[Figure],
    table: Table,
) -> Row:
    protocol = table.protocols[entries[0].protocol - 1] if entries[0].protocol else {}
    seeds = sorted(entry.job.run.read_config()["seed"] for entry in entries)
    shown = {metric: mean_and_sd(row[metric], row[f"{metric}_sd"]) for metric in metrics if row.get(metric) is not None}
    others = [name for name in table.main_metrics if name not in metrics and row.get(name) is not None]
    told = [
        f"{name} {mean_and_sd(row[name], row[f'{name}_sd'])}" for name in others if name.startswith(_heads(metrics))
    ]
    nimg = entries[0].job.run.read_results().get("run", {}).get("nimg")
    return {
        "of": OURS,
        "system": config["model"]["name"],
        "K": config["model"]["k"],
        **{metric: shown.get(metric) for metric in metrics},
        "comparable": verdict(theirs, protocol, config, shown),
        "also measured": "; ".join(told) or None,
        "n": _count(protocol.get("n_fake")),
        "over": f"seed {', '.join(map(str, seeds))}",
        "images shown": _count(nimg),
    }


def verdict(
    theirs: Sequence[Figure], protocol: Mapping[str, Any], config: Mapping[str, Any], measured: Mapping[str, str]
) -> str:
    """Return "comparable", or which metrics are not, and why.

    Args:
        theirs: the published figures of the model.
        protocol: by which ours was measured.
        config: of our run.
        measured: our figures, by metric.
    """
    if not theirs:
        return "not comparable: nothing is published of this model"
    reasons: dict[str, list[str]] = {}
    size = config["data"].get("size")
    for figure in theirs:
        if figure.metric not in measured:
            reasons.setdefault("not measured", []).append(figure.metric)
            continue
        for obstacle in obstacles(figure, protocol, size):
            reasons.setdefault(obstacle, []).append(figure.metric)
    if not reasons:
        return "comparable"
    return "not comparable: " + "; ".join(
        reason if len(of) == len(theirs) else f"{', '.join(of)}: {reason}" for reason, of in reasons.items()
    )


def _heads(metrics: Sequence[str]) -> tuple[str, ...]:
    """How metrics begin that are of the same kind as these: fid_768 and fid_classifier as fid_hmog2019."""
    return tuple({metric.partition("_")[0] for metric in metrics})


def _said(name: str, published: Sequence[Figure]) -> list[str]:
    source = next(figure.source for figure in published if figure.source.name == name)
    return [f"{name}: {source.citation}. Deviations over {source.over}. " + " ".join(_sentences(source.notes))]


def _sentences(notes: Sequence[str]) -> list[str]:
    return [note if note.endswith(".") else f"{note}." for note in notes]


def _count(n: Any) -> str | None:
    return f"{n:,}" if isinstance(n, int) else None
