"""The section of the page about one run, read from the run's folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mixgan_cli.config.components import TARGET, attribute, class_name, trust
from mixgan_cli.config.compose import CompositionError, choice_with, defaults_of
from mixgan_cli.config.identity import ADDED, identity
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError, UserError
from mixgan_cli.evaluation.metrics.registry import deviation, is_deviation, is_value
from mixgan_cli.reporting.page import PageTable, Picture, RunSection, ShareTable
from mixgan_cli.reporting.plots.mixture import CAPTIONS
from mixgan_cli.reporting.plots.run import REAL, draw_curves
from mixgan_cli.reporting.plots.save import DARK, save_figure
from mixgan_cli.reporting.read_run import as_text, read_curves, read_png, read_results, sample_pictures
from mixgan_cli.reporting.tables import MISSING, format_value
from mixgan_cli.runs import Results, RunFolder
from mixgan_cli.runtime.reading import read_errors, read_json, read_text


def run_section(folder: RunFolder, name: str, number: int, to: Path, drawn: Mapping[str, Path]) -> RunSection:
    """Return the section of a run, finished or not.

    Args:
        folder: the run's folder.
        name: the run's name on the page.
        number: the run's position on the page, from 1.
        to: folder for the run's learning curves.
        drawn: plots that were drawn for the page, by name; for other names the run's own plots are taken.

    Raises:
        RunError: the run's files are not what mixgan writes.
    """
    config, results = folder.read_config(), read_results(folder)
    failed = folder.path / "FAILED"
    status = "done" if folder.done else "failed" if failed.is_file() else "not finished"
    with read_errors(folder.path):
        return RunSection(
            anchor=f"run-{number}",
            name=name,
            status=status,
            error=read_text(failed, folder.path)[:4000] if status == "failed" else None,
            facts=_facts(folder, config, results),
            metrics=_metrics(results.metrics),
            unavailable=results.unavailable,
            protocol=results.protocol,
            pictures=[*_samples(folder, _is_hard(config)), *_curves(folder, to), *_mixture_plots(folder, drawn)],
            shares=_experts_by_class(results.metrics),
            tables=[*_changed_keys(config), *_levels(results.metrics), *_later_evaluations(folder)],
        )


def _facts(folder: RunFolder, config: Mapping[str, Any], results: Results) -> dict[str, Any]:
    environment, run, model = read_json(folder.path / "environment.json", folder.path), results.run, config["model"]
    parameters = ", ".join(f"{part} {count:,}" for part, count in run.get("parameters", {}).items())
    dirty = " (with uncommitted changes)" if environment.get("git_dirty") else ""
    parts = "".join(f", {part} {_class_name(model[part])}" for part in ("gate", "experts", "head"))
    beta = f", β = {model['beta']:g}" if model.get("beta") else ""
    device = environment.get("device")
    versions = [f"{key} {environment[key]}" for key in ("mixgan", "torch", "python") if key in environment]
    facts = {
        "name": config.get("name"),
        "folder": folder.path,
        "data": str(config["data"]["name"]),
        "model": f"{model['name']}, K = {model['k']}{beta}{parts}",
        "objective": f"{_class_name(config['objective']['adversarial'])}, "
        f"discriminator steps per generator step: {config['objective']['d_steps']}",
        "seed": config["seed"],
        "images shown": _length(folder, config, run),
        "lineage": _lineage(config.get("lineage")),
        "time": f"{run['seconds']:,.0f} s of training, {run['img_per_second']:,.0f} images per second"
        if "seconds" in run
        else None,
        "parameters": parameters,
        "device": device and f"{device}, {environment.get('precision', '')}".strip(", "),
        "versions": ", ".join(versions),
        "command": _command(environment.get("command")),
        "commit": environment.get("git_commit") and f"{environment['git_commit']}{dirty}",
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _command(words: Any) -> str | None:
    """Return the words of a command as a line for a shell."""
    if not isinstance(words, list) or not words:
        return None
    program, *others = map(str, words)
    return " ".join([program, *map(shlex.quote, others)])  # the first word is the program with its command


def _changed_keys(config: Mapping[str, Any]) -> list[PageTable]:
    """Return a table of the keys in which a run differs from the defaults of its data set and model."""
    model = str(config["model"]["name"])
    data = _data_choice(str(config["data"]["name"]), str(config["data"].get(TARGET)))
    defaults = _identity_of_defaults(data, model) if data else None
    if defaults is None:
        return []
    own = identity(config)
    keys = [key for key in dict.fromkeys([*own, *defaults]) if key != "seed"]
    values = {key: [each.get(key, ADDED.get(key, MISSING)) for each in (own, defaults)] for key in keys}
    rows = [
        {"key": key, "this run": as_text(this), "default": as_text(default)}
        for key, (this, default) in values.items()
        if this != default
    ]
    title = f"Keys that differ from the defaults of data={data} model={model}: {len(rows)}"
    return [PageTable(title, rows, folded=True)] if rows else []


@cache
def _data_choice(name: str, target: str) -> str | None:
    """Return the choice of a data set, which may have a name of its own; None if mixgan has no such choice."""
    return choice_with("data", name, target)


@cache
def _identity_of_defaults(data: str, model: str) -> Mapping[str, Any] | None:
    """Return keys and values that identify a run with defaults; None if data set and model have none together."""
    try:
        composed = defaults_of(data, model)
        return None if composed is None else identity(parse(composed, Run).model_dump(mode="json"))
    except (UserError, *CompositionError):
        return None


def _lineage(lineage: Mapping[str, Any] | None) -> str | None:
    """Return from which run this one goes on; None if it began with its own initial weights."""
    if not lineage:
        return None
    how = "continues" if lineage["how"] == "continued" else "started from the weights of"
    return f"{how} {lineage['source']}" + (f", at {lineage['nimg']:,} images" if lineage["nimg"] else "")


def _length(folder: RunFolder, config: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Return how many images were shown, according to the results or, in an unfinished run, to the log."""
    wanted = config["training"]["nimg"]
    if folder.done:
        more = " (whole batches)" if run["nimg"] > wanted else ""
        ended = f", ended by an alarm: {', '.join(run['ended_by'])}" if run.get("ended_by") else ""
        return f"{run['nimg']:,} of {wanted:,}{more}{ended}"
    logged = max((points[-1][0] for points in read_curves(folder.metrics).values()), default=0)
    return f"{int(logged):,} of {wanted:,}; the same command resumes the run"


def _metrics(metrics: Mapping[str, Any]) -> PageTable | None:
    rows = []
    for name, value in metrics.items():
        if isinstance(value, (int, float)) and not is_deviation(name):
            spread = deviation(name, metrics)
            rows.append({"metric": name, "value": value, **({} if spread is None else {"±": spread})})
        elif is_value(name) and isinstance(value, list) and all(isinstance(entry, (int, float)) for entry in value):
            rows.append({"metric": name, "value": ", ".join(f"{entry:.3g}" for entry in value)})
    return PageTable("Metrics", rows) if rows else None


def _later_evaluations(folder: RunFolder) -> list[PageTable]:
    """Return a table for each evaluation after the end of the run."""
    tables = []
    for found in folder.read_evaluations():
        table, protocol = _metrics(found.metrics), found.protocol
        state = f"the state at {protocol['nimg']:,} images" if isinstance(protocol.get("nimg"), int) else "a state"
        counts = f"{protocol.get('n_fake')} against {protocol.get('n_real')} samples"
        if table:
            title = f"Evaluated later: {state}, protocol {protocol.get('name')}, {counts}"
            tables.append(PageTable(title, table.rows, folded=True))
    return tables


def _samples(folder: RunFolder, hard: bool) -> list[Picture]:
    pictures = sample_pictures(folder)
    if not pictures:
        return []
    rows = " Each row is one expert." if hard else ""
    caption = f"Samples of fixed latents after {int(pictures[-1].stem):,} images.{rows}"
    return [
        *_picture("Samples", caption, pictures[-1], folder.path),
        *_picture("Real images", "Images that the samples are compared with.", folder.samples / REAL, folder.path),
    ]


def _curves(folder: RunFolder, to: Path) -> list[Picture]:
    figure = draw_curves(read_curves(folder.metrics))
    if figure is None:
        return []
    path = save_figure(figure, to, "curves")
    return _picture("Learning curves", "Losses, and metrics during training, against images shown.", path, to)


def _mixture_plots(folder: RunFolder, drawn: Mapping[str, Path]) -> list[Picture]:
    """Return the plots of what the mixture learned, in the order of CAPTIONS."""
    pictures = []
    for name, (title, caption) in CAPTIONS.items():
        path = drawn.get(name, folder.figures / f"{name}.png")
        pictures += _picture(title, caption, path, path.parent if name in drawn else folder.path)
    return pictures


def _picture(title: str, caption: str, path: Path, folder: Path) -> list[Picture]:
    """Return a list with the picture and its dark version, empty if there is no such PNG in the folder."""
    png, dark = (read_png(each, folder) for each in (path, path.parent / DARK / path.name))
    return [] if png is None else [Picture(title, caption, png, dark)]


def _experts_by_class(metrics: Mapping[str, Any]) -> list[ShareTable]:
    """Return the table of experts by classes, each row divided by its sum."""
    joint = metrics.get("expert_class")
    if not joint:
        return []
    rows = [[value / (sum(row) or 1) for value in row] for row in joint]
    return [
        ShareTable(
            "Experts and classes",
            "Percentage of each expert's samples in each class, as predicted by a classifier trained on the data set. "
            "A sample counts for an expert by the expert's weight. "
            f"Normalised mutual information {format_value(metrics.get('nmi'))}, "
            f"purity {format_value(metrics.get('purity'))}.",
            [f"expert {number}" for number in range(len(rows))],
            [f"{number}" for number in range(len(rows[0]))],
            rows,
        )
    ]


def _levels(metrics: Mapping[str, Any]) -> list[PageTable]:
    """Return the table of how well each level of a tree separates the classes."""
    names = [name for name in ("nmi_by_level", "purity_by_level") if metrics.get(name)]
    if not names:
        return []
    rows = [
        {
            "level": level,
            "nodes": 2**level,
            **{name.removesuffix("_by_level"): metrics[name][level - 1] for name in names},
        }
        for level in range(1, len(metrics[names[0]]) + 1)
    ]
    remark = "nmi: normalised mutual information of nodes and classes; purity: share of a node's most common class."
    return [PageTable("Hierarchy and classes, by level", rows, [remark])]


def _is_hard(config: Mapping[str, Any]) -> bool:
    """Return whether each sample comes from one of several experts; False for a gate that is not trusted."""
    gate = config["model"]["gate"]
    try:
        trust(gate)
    except ConfigError:
        return False
    return config["model"]["k"] > 1 and bool(attribute(gate[TARGET], "hard"))


def _class_name(component: Mapping[str, Any]) -> str:
    return class_name(component.get(TARGET, MISSING))
