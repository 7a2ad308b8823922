"""Published values as data, and the rule for which of our results may be compared with them.

`published_values/` holds a CSV file for each source, with the values as printed (those of the 5-NN test as shares), and
`sources.yaml`, which states how they were measured.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mixgan_cli.config.components import TARGET, class_name
from mixgan_cli.config.schema import conf_dir
from mixgan_cli.reporting.read_run import read_results
from mixgan_cli.reporting.sweep_table import Entry, Row, SweepTable
from mixgan_cli.reporting.tables import mean_and_sd
from mixgan_cli.runtime.reading import read_yaml

FOLDER = Path(__file__).parent / "published_values"
PARTS = ("gate", "experts", "head")
"""The parts that identify a model."""
OURS = "ours"
"""Marks our rows in the column "source"."""
SAME_PROTOCOL = "same protocol"
EXPLANATION = (
    "“Same protocol” is about measuring only. How many images a run was trained on, how large its networks were and "
    "how often training was repeated is left for you to compare. `make reproduce-…` trains as published, as far as "
    "that is known, and measures with the same protocol."
)


@dataclass(frozen=True)
class Source:
    """A publication, and how its values were measured."""

    name: str
    citation: str
    over: str
    """What a standard deviation is over."""
    protocol: Mapping[str, Any]
    """What a value depends on, by the dotted keys of a result's protocol."""
    of_metric: Mapping[str, Mapping[str, Any]]
    of_data: Mapping[str, Mapping[str, Any]]
    obstacles: Mapping[str, Sequence[str]]
    """Why no result of ours is comparable, by metric: it is computed in another way, or in an unknown way."""
    notes: Sequence[str]

    def protocol_of(self, metric: str, data: str) -> dict[str, Any]:
        """Return what the values of a metric on a data set depend on."""
        return {**self.protocol, **self.of_metric.get(metric, {}), **self.of_data.get(data, {})}


@dataclass(frozen=True)
class PublishedValue:
    """One published value."""

    source: Source
    data: str
    """Name of the data set in conf/data/."""
    size: int | None
    """Side of the images [pixels]; None: points."""
    system: str
    """Name of the system in the source."""
    model: str | None
    """Name in conf/model/; None if mixgan has no such model."""
    experts: str | None
    """Name in conf/model/experts/, if the source reports the model with several kinds of experts; else None."""
    k: int | None
    """Number of experts; None if it is unknown, or there is no model."""
    pack: int
    """Number of samples that the discriminator sees at once."""
    metric: str
    """Key in results.json."""
    value: float
    sd: float | None
    printed: str
    """Value and standard deviation with the digits of the source."""


class PublishedTable(NamedTuple):
    """Published values and ours on one data set."""

    data: str
    rows: list[Row]
    """Our rows, each below the published row of the same model."""
    published: list[Row]
    """All published rows."""
    remarks: list[str]


def published_values(data: str) -> tuple[PublishedValue, ...]:
    """Return all published values on a data set, by its name in conf/data/, in the order of the files."""
    return tuple(value for value in _read_all() if value.data == data)


def obstacles(value: PublishedValue, protocol: Mapping[str, Any], size: int | None) -> list[str]:
    """Return why our result on the same data set and metric is not comparable with a published value; empty if it is.

    What else is unknown about the value, such as which checkpoint was measured, is in the notes of its source.

    Args:
        value: the published value.
        protocol: protocol of a run's results.json.
        size: side of our images [pixels]; None: points.
    """
    wanted = value.source.protocol_of(value.metric, value.data)
    points = [("size", size, value.size), *((key, _at(protocol, key), theirs) for key, theirs in wanted.items())]
    differing = [
        f"{key}: {_as_text(ours)} here, {_as_text(theirs)} published" for key, ours, theirs in points if ours != theirs
    ]
    return differing + list(value.source.obstacles.get(value.metric, ()))


def matches(value: PublishedValue, model: Mapping[str, Any]) -> bool:
    """Return whether a value is of this model: the same gate, experts, head, K and packs, regardless of training.

    A value with unknown K matches any K.

    Args:
        value: the published value.
        model: the group `model` of a run's config.yaml.
    """
    if value.model is None or value.model != model.get("name") or value.k not in (None, model.get("k")):
        return False
    if value.pack != model.get("pack", 1):  # runs older than the key have none
        return False
    targets = _part_targets(value.model, value.experts)
    return all(_at(model, f"{part}.{TARGET}") == target for part, target in targets.items())


def published_tables(table: SweepTable) -> Iterator[PublishedTable]:
    """Yield a table for each data set that has both finished runs and published values.

    Our rows give mean ± standard deviation over seeds, other metrics of the same kind, and whether the protocol is that
    of the published row of the same model, or else every reason why not.
    """
    finished = [(row, group, group[0].job.run.read_config()) for row, group in table.grouped() if group]
    for data in dict.fromkeys(str(config["data"]["name"]) for _, _, config in finished):
        published = published_values(data)
        if not published:
            continue
        metrics = list(dict.fromkeys(value.metric for value in published))
        systems = _by_system(published)
        ours = [run for run in finished if run[2]["data"]["name"] == data]
        rows: list[Row] = []
        for theirs in systems:
            matching = [run for run in ours if matches(theirs[0], run[2]["model"])]
            rows += [_published_row(theirs, metrics)] if matching else []
            rows += [_our_row(*run, metrics, theirs, table) for run in matching]
        unmatched = [run for run in ours if not any(matches(theirs[0], run[2]["model"]) for theirs in systems)]
        rows += [_our_row(*run, metrics, (), table) for run in unmatched]
        sources = {value.source.name: value.source for value in published}
        remarks = [EXPLANATION, *map(_describe, sources.values())]
        yield PublishedTable(data, rows, [_published_row(theirs, metrics) for theirs in systems], remarks)


def verdict(
    theirs: Sequence[PublishedValue],
    protocol: Mapping[str, Any],
    config: Mapping[str, Any],
    measured: Mapping[str, str],
) -> str:
    """Return "same protocol", or which metrics are not comparable, and why.

    Args:
        theirs: the published values of the model.
        protocol: the protocol of our results.
        config: the configuration of our run.
        measured: our values, by metric.
    """
    if not theirs:
        parts = ", ".join(class_name(config["model"][part].get(TARGET)) for part in PARTS)
        packs = f" and packs of {pack}" if (pack := config["model"].get("pack", 1)) > 1 else ""
        return f"not comparable: there are no published values for K = {config['model']['k']} with {parts}{packs}"
    reasons: dict[str, list[str]] = {}
    size = config["data"].get("size")
    for value in theirs:
        missing = [] if value.metric in measured else ["not measured"]
        for reason in [*missing, *obstacles(value, protocol, size)]:
            reasons.setdefault(reason, []).append(value.metric)
    if not reasons:
        return SAME_PROTOCOL
    return "not comparable: " + "; ".join(
        reason if len(metrics) == len(theirs) else f"{', '.join(metrics)}: {reason}"
        for reason, metrics in reasons.items()
    )


def _published_row(theirs: Sequence[PublishedValue], metrics: Sequence[str]) -> Row:
    first = theirs[0]
    printed = {value.metric: value.printed for value in theirs}
    n_fakes = {first.source.protocol_of(value.metric, first.data).get("n_fake") for value in theirs}
    return {
        "source": first.source.name,
        "system": first.system,
        "K": first.k,
        **{metric: printed.get(metric) for metric in metrics},
        "n": _as_count(*n_fakes) if len(n_fakes) == 1 else None,
        "± over": first.source.over if any(value.sd is not None for value in theirs) else None,
    }


def _our_row(
    row: Row,
    entries: Sequence[Entry],
    config: Mapping[str, Any],
    metrics: Sequence[str],
    theirs: Sequence[PublishedValue],
    table: SweepTable,
) -> Row:
    protocol = table.protocols[entries[0].protocol - 1] if entries[0].protocol else {}
    seeds = sorted(entry.job.run.read_config()["seed"] for entry in entries)
    values = {
        name: mean_and_sd(row[name], row[f"{name}_sd"]) for name in table.main_metrics if row.get(name) is not None
    }
    measured = {metric: values[metric] for metric in metrics if metric in values}
    kinds = tuple({metric.partition("_")[0] for metric in metrics})  # fid_768 is of the same kind as fid_hmog2019
    others = [f"{name} {value}" for name, value in values.items() if name not in metrics and name.startswith(kinds)]
    keys = [f"{key}={row[key]}" for key in table.keys if key != "seed" and row.get(key) is not None]
    return {
        "source": OURS,
        "system": config["model"]["name"],
        "K": config["model"]["k"],
        **{metric: measured.get(metric) for metric in metrics},
        "n": _as_count(protocol.get("n_fake")),
        "± over": f"seed {', '.join(map(str, seeds))}",
        "images shown": _as_count(read_results(entries[0].job.run).run.get("nimg")),
        "also measured": "; ".join(others) or None,
        "run": ", ".join(keys) or entries[0].job.run.path.name,
        "comparable": verdict(theirs, protocol, config, measured),
    }


def _by_system(published: Sequence[PublishedValue]) -> list[list[PublishedValue]]:
    """Return the values grouped by source, system and size."""
    systems: dict[tuple[Any, ...], list[PublishedValue]] = {}
    for value in published:
        systems.setdefault((value.source.name, value.system, value.size), []).append(value)
    return list(systems.values())


def _describe(source: Source) -> str:
    notes = " ".join(note if note.endswith(".") else f"{note}." for note in source.notes)
    return f"{source.name}: {source.citation}. Standard deviations over: {source.over}. {notes}"


def _as_count(n: Any) -> str | None:
    return f"{n:,}" if isinstance(n, int) else None


def _as_text(value: Any) -> str:
    if value is None:
        return "not stated"
    return str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)


def _at(group: Mapping[str, Any], key: str) -> Any:
    """Return the value at a.b.c, or None; of a checksum, only the 8 digits that the sources give."""
    found: Any = group
    for step in key.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return str(found)[:8] if key.endswith(".weights") and found else found


@cache
def _read_all() -> tuple[PublishedValue, ...]:
    values = []
    for name, description in read_yaml(FOLDER / "sources.yaml").items():
        source = Source(name, **description)
        with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            values += [_parse_row(source, row) for row in csv.DictReader(file)]
    return tuple(values)


def _parse_row(source: Source, row: Mapping[str, str]) -> PublishedValue:
    value, sd = row["value"], row["sd"]
    return PublishedValue(
        source,
        row["data"],
        int(row["size"]) if row["size"] else None,
        row["system"],
        row["model"] or None,
        row["experts"] or None,
        int(row["k"]) if row["k"] else None,
        int(row.get("pack") or 1),
        row["metric"],
        float(value),
        float(sd) if sd else None,
        f"{value} ± {sd}" if sd else value,
    )


@cache
def _part_targets(model: str, experts: str | None) -> dict[str, str]:
    """Return the class of each part of a model of conf/model/, with these experts if they are given."""
    defaults = read_yaml(conf_dir() / "model" / f"{model}.yaml")["defaults"]
    choices = {part: choice for entry in defaults if isinstance(entry, dict) for part, choice in entry.items()}
    choices |= {"experts": experts} if experts else {}
    return {part: _target_of_choice(part, choices[part]) for part in PARTS}


def _target_of_choice(part: str, choice: str) -> str:
    """Return the class of a choice: its own, or that of the choice it inherits from."""
    content = read_yaml(conf_dir() / "model" / part / f"{choice}.yaml")
    return content.get(TARGET) or _target_of_choice(part, content["defaults"][0])
