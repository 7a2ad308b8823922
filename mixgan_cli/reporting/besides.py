"""Published beside reproduced: for each data set what the papers report, our rows beneath those of the same model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mixgan_cli.reporting.published import PARTS, Figure, figures, matches, obstacles
from mixgan_cli.reporting.sweep import Entry, Row, Table
from mixgan_cli.reporting.tables import mean_and_sd
from mixgan_cli.reporting.written import read_results

OURS = "ours"
"""In the column "of", what marks our rows."""


MEASURED_ALIKE = (
    "“Measured alike” speaks of measuring alone: on how many images, how wide and how often a run was trained is for "
    "you to compare. `make reproduce-…` trains as published, as far as that is known, and measures alike."
)


class Beside(NamedTuple):
    """A data set: ours beside theirs, all that is published of it, and what is to be said of the sources."""

    data: str
    rows: list[Row]
    published: list[Row]
    remarks: list[str]


def beside(table: Table) -> Iterator[Beside]:
    """Yield what papers and finished runs have in common, data set by data set.

    A row of ours has mean ± deviation over its seeds, what else was measured, and whether it was measured as the
    published row of its model above it, or each reason why not.
    """
    finished = [(row, of, of[0].job.run.read_config()) for row, of in table.grouped() if of]
    for data in dict.fromkeys(str(config["data"]["name"]) for _, _, config in finished):
        published = figures(data)
        if not published:
            continue
        metrics = list(dict.fromkeys(figure.metric for figure in published))
        systems = _systems(published)
        ours = [one for one in finished if one[2]["data"]["name"] == data]
        rows: list[Row] = []
        for theirs in systems:
            matching = [one for one in ours if matches(theirs[0], one[2]["model"])]
            rows += [_theirs(theirs, metrics)] if matching else []
            rows += [_ours(*one, metrics, theirs, table) for one in matching]
        alone = [one for one in ours if not any(matches(theirs[0], one[2]["model"]) for theirs in systems)]
        rows += [_ours(*one, metrics, (), table) for one in alone]
        sources = dict.fromkeys(figure.source.name for figure in published)
        remarks = [MEASURED_ALIKE, *(_said(name, published) for name in sources)]
        yield Beside(data, rows, [_theirs(theirs, metrics) for theirs in systems], remarks)


def _systems(published: Sequence[Figure]) -> list[list[Figure]]:
    """The figures of each system of each source, together."""
    found: dict[tuple[Any, ...], list[Figure]] = {}
    for one in published:
        found.setdefault((one.source.name, one.system, one.size), []).append(one)
    return list(found.values())


def _theirs(of: Sequence[Figure], metrics: Sequence[str]) -> Row:
    first = of[0]
    printed = {figure.metric: figure.printed for figure in of}
    ns = {first.source.protocol_of(figure.metric, first.data).get("n_fake") for figure in of}
    return {
        "of": first.source.name,
        "system": first.system,
        "K": first.k,
        **{metric: printed.get(metric) for metric in metrics},
        "n": _count(*ns) if len(ns) == 1 else None,
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
    nimg = read_results(entries[0].job.run).run.get("nimg")
    varied = [f"{key}={row[key]}" for key in table.keys if key != "seed" and row.get(key) is not None]
    return {
        "of": OURS,
        "system": config["model"]["name"],
        "K": config["model"]["k"],
        **{metric: shown.get(metric) for metric in metrics},
        "n": _count(protocol.get("n_fake")),
        "over": f"seed {', '.join(map(str, seeds))}",
        "images shown": _count(nimg),
        "also measured": "; ".join(told) or None,
        "run": ", ".join(varied) or entries[0].job.run.path.name,
        "comparable": verdict(theirs, protocol, config, shown),
    }


def verdict(
    theirs: Sequence[Figure], protocol: Mapping[str, Any], config: Mapping[str, Any], measured: Mapping[str, str]
) -> str:
    """Return "measured alike", or which metrics are not comparable, and why.

    Args:
        theirs: the published figures of the model.
        protocol: by which ours was measured.
        config: of our run.
        measured: our figures, by metric.
    """
    if not theirs:
        parts = ", ".join(str(config["model"][part].get("_target_")).rpartition(".")[2] for part in PARTS)
        return f"not comparable: nothing is published of K = {config['model']['k']} with {parts}"
    reasons: dict[str, list[str]] = {}
    size = config["data"].get("size")
    for figure in theirs:
        missing = [] if figure.metric in measured else ["not measured"]
        for reason in [*missing, *obstacles(figure, protocol, size)]:
            reasons.setdefault(reason, []).append(figure.metric)
    if not reasons:
        return "measured alike"
    return "not comparable: " + "; ".join(
        reason if len(of) == len(theirs) else f"{', '.join(of)}: {reason}" for reason, of in reasons.items()
    )


def _heads(metrics: Sequence[str]) -> tuple[str, ...]:
    """How metrics begin that are of the same kind as these: fid_768 and fid_classifier as fid_hmog2019."""
    return tuple({metric.partition("_")[0] for metric in metrics})


def _said(name: str, published: Sequence[Figure]) -> str:
    source = next(figure.source for figure in published if figure.source.name == name)
    return f"{name}: {source.citation}. Deviations over {source.over}. " + " ".join(_sentences(source.notes))


def _sentences(notes: Sequence[str]) -> list[str]:
    return [note if note.endswith(".") else f"{note}." for note in notes]


def _count(n: Any) -> str | None:
    return f"{n:,}" if isinstance(n, int) else None
