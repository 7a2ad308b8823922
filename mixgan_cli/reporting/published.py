"""What the papers report, as data, and whether a result of ours may be set beside it.

`published_figures/` holds a CSV for each source, its figures as printed there, but the 5-NN test's as shares; and
`sources.yaml`, which says how they were measured.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mixgan_cli.config.schema import conf_dir
from mixgan_cli.runtime.io import read_yaml

FOLDER = Path(__file__).parent / "published_figures"
PARTS = ("gate", "experts", "head")
"""What makes a model this model."""


@dataclass(frozen=True)
class Source:
    """A publication, and how its figures were measured."""

    name: str
    citation: str
    over: str
    """What its deviations are over."""
    protocol: Mapping[str, Any]
    """What decides a figure, by the keys of a result's protocol, those of groups joined by dots."""
    of_metric: Mapping[str, Mapping[str, Any]]
    of_data: Mapping[str, Mapping[str, Any]]
    obstacles: Mapping[str, Sequence[str]]
    """By metric, why nothing of ours compares: computed in another way, or in one that is not known."""
    notes: Sequence[str]

    def protocol_of(self, metric: str, data: str) -> dict[str, Any]:
        """Return what decides a metric's figures for a data set."""
        return {**self.protocol, **self.of_metric.get(metric, {}), **self.of_data.get(data, {})}


@dataclass(frozen=True)
class Figure:
    """One published figure."""

    source: Source
    data: str
    """As in conf/data/."""
    size: int
    """Pixels a side."""
    system: str
    """What the source calls it."""
    model: str | None
    """As in conf/model/; None where that has no such model."""
    experts: str | None
    """As in conf/model/experts/, where the source has the model with several; else None."""
    k: int | None
    """None where it is not known, and where there is no model."""
    metric: str
    """As in results.json."""
    value: float
    sd: float | None
    printed: str
    """Value and deviation with the digits that the source gives."""


def figures(data: str) -> tuple[Figure, ...]:
    """Return all that is published of a data set, by its name in conf/data/, in the files' order."""
    return tuple(figure for figure in _all() if figure.data == data)


def obstacles(figure: Figure, protocol: Mapping[str, Any], size: int) -> list[str]:
    """Return why a result of ours for the figure's data and metric must not be compared with it; nothing if it may.

    What else is not known of the figure, such as which checkpoint was measured, its source's notes say.

    Args:
        figure: theirs.
        protocol: that of a run's results.json.
        size: of our images, in pixels a side.
    """
    wanted = figure.source.protocol_of(figure.metric, figure.data)
    points = [("size", size, figure.size), *((key, _at(protocol, key), value) for key, value in wanted.items())]
    differing = [f"{key}: {_told(ours)} here, {_told(theirs)} there" for key, ours, theirs in points if ours != theirs]
    return differing + list(figure.source.obstacles.get(figure.metric, ()))


def matches(figure: Figure, model: Mapping[str, Any]) -> bool:
    """Return whether a figure is of our model: of its gate, experts, head and K, whatever their training.

    A figure whose K is not known matches any K.

    Args:
        figure: theirs.
        model: the group `model` of a run's config.yaml.
    """
    if figure.model is None or figure.model != model.get("name") or figure.k not in (None, model.get("k")):
        return False
    return all(_at(model, f"{part}._target_") == name for part, name in _parts(figure.model, figure.experts).items())


@cache
def _all() -> tuple[Figure, ...]:
    found = []
    for name, about in read_yaml(FOLDER / "sources.yaml").items():
        source = Source(name, **about)
        with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found += [_figure(source, row) for row in csv.DictReader(file)]
    return tuple(found)


def _figure(source: Source, row: Mapping[str, str]) -> Figure:
    value, sd = row["value"], row["sd"]
    return Figure(
        source,
        row["data"],
        int(row["size"]),
        row["system"],
        row["model"] or None,
        row["experts"] or None,
        int(row["k"]) if row["k"] else None,
        row["metric"],
        float(value),
        float(sd) if sd else None,
        f"{value} ± {sd}" if sd else value,
    )


def _at(group: Mapping[str, Any], key: str) -> Any:
    """What is at a.b.c, None where there is nothing; of a checksum as many digits as the sources tell."""
    found: Any = group
    for step in key.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return str(found)[:8] if key.endswith(".weights") and found else found


def _told(value: Any) -> str:
    if value is None:
        return "not told"
    return str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)


@cache
def _parts(model: str, experts: str | None) -> dict[str, str]:
    """Return the class of each part that conf/model/ gives a model, but of these experts, if any are named."""
    defaults = read_yaml(conf_dir() / "model" / f"{model}.yaml")["defaults"]
    choices = {part: choice for entry in defaults if isinstance(entry, dict) for part, choice in entry.items()}
    choices |= {"experts": experts} if experts else {}
    return {part: _class(part, choices[part]) for part in PARTS}


def _class(part: str, choice: str) -> str:
    """The class of a choice: its own, or that of the choice it builds on."""
    content = read_yaml(conf_dir() / "model" / part / f"{choice}.yaml")
    return content.get("_target_") or _class(part, content["defaults"][0])
