"""One run as the page tells it, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixgan_cli.config.components import TARGET, attribute, trust
from mixgan_cli.errors import ConfigError
from mixgan_cli.evaluation.metrics.registry import deviation, is_deviation, is_value
from mixgan_cli.reporting import curves
from mixgan_cli.reporting.figures import CAPTIONS, save
from mixgan_cli.reporting.page import Picture, RunPage, Shares, TableOf
from mixgan_cli.reporting.tables import NONE, cell
from mixgan_cli.reporting.written import Results, as_written, read_bytes, read_json, read_results, read_text
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import write_errors


def portrait(folder: RunFolder, name: str, number: int, to: Path, drawn: Mapping[str, Path]) -> RunPage:
    """Return what is told of a run, finished or not.

    Args:
        folder: the run's, from which all is read.
        name: what tells it from others.
        number: its place on the page.
        to: the folder for its learning curves.
        drawn: figures of it that were drawn for the page, by name; else the run's own are taken.

    Raises:
        RunError: its files are not what mixgan writes.
    """
    config, results = folder.read_config(), read_results(folder)
    failed = folder.path / "FAILED"
    status = "done" if folder.done else "failed" if failed.is_file() else "not finished"
    with as_written(folder.path):
        return RunPage(
            anchor=f"run-{number}",
            name=name,
            status=status,
            error=read_text(failed, folder.path)[:4000] if status == "failed" else None,
            facts=_facts(folder, config, results),
            metrics=_metrics(results.metrics),
            unavailable=results.unavailable,
            protocol=results.protocol,
            pictures=[*_samples(folder, _hard(config)), *_curves(folder, to), *_figures(folder, drawn)],
            shares=_shares(results.metrics),
            tables=_levels(results.metrics),
        )


def _facts(folder: RunFolder, config: Mapping[str, Any], results: Results) -> dict[str, Any]:
    environment, run, model = read_json(folder.path / "environment.json", folder.path), results.run, config["model"]
    parameters = ", ".join(f"{part} {count:,}" for part, count in run.get("parameters", {}).items())
    dirty = " (with uncommitted changes)" if environment.get("git_dirty") else ""
    parts = "".join(f", {part} {_class(model[part])}" for part in ("gate", "experts", "head"))
    beta = f", β = {model['beta']:g}" if model.get("beta") else ""
    device = environment.get("device")
    versions = [f"{key} {environment[key]}" for key in ("mixgan", "torch", "python") if key in environment]
    facts = {
        "folder": folder.path,
        "data": str(config["data"]["name"]),
        "model": f"{model['name']}, K = {model['k']}{beta}{parts}",
        "objective": f"{_class(config['objective']['adversarial'])}, "
        f"discriminator steps for each of the generator: {config['objective']['d_steps']}",
        "seed": config["seed"],
        "images shown": _length(folder, config, run),
        "time": f"{run['seconds']:,.0f} s of training, {run['img_per_second']:,.0f} images a second"
        if "seconds" in run
        else None,
        "parameters": parameters,
        "device": device and f"{device}, {environment.get('precision', '')}".strip(", "),
        "versions": ", ".join(versions),
        "commit": environment.get("git_commit") and f"{environment['git_commit']}{dirty}",
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _length(folder: RunFolder, config: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """How far the run is: by its results, or by its log."""
    wanted = config["training"]["nimg"]
    if folder.done:
        more = " (whole batches)" if run["nimg"] > wanted else ""
        ended = f", ended by an alarm: {', '.join(run['ended_by'])}" if run.get("ended_by") else ""
        return f"{run['nimg']:,} of {wanted:,}{more}{ended}"
    logged = max((points[-1][0] for points in curves.read(folder.metrics).values()), default=0)
    return f"{int(logged):,} of {wanted:,}; the same command goes on"


def _metrics(metrics: Mapping[str, Any]) -> TableOf | None:
    rows = []
    for name, value in metrics.items():
        if isinstance(value, (int, float)) and not is_deviation(name):
            spread = deviation(name, metrics)
            rows.append({"metric": name, "value": value, **({} if spread is None else {"±": spread})})
        elif is_value(name) and isinstance(value, list) and all(isinstance(entry, (int, float)) for entry in value):
            rows.append({"metric": name, "value": ", ".join(f"{entry:.3g}" for entry in value)})
    return TableOf("Metrics", rows) if rows else None


def _samples(folder: RunFolder, hard: bool) -> list[Picture]:
    pictures = sorted(path for path in folder.samples.glob("[0-9]*.png") if path.stem.isdecimal())
    if not pictures:
        return []
    rows = " Each row is one expert's." if hard else ""
    caption = f"Drawn from fixed latents after {int(pictures[-1].stem):,} images.{rows}"
    return _read([("Samples", caption, pictures[-1])], folder.path)


def _curves(folder: RunFolder, to: Path) -> list[Picture]:
    figure = curves.draw(curves.read(folder.metrics))
    if figure is None:
        return []
    with write_errors(f"to={to}"):
        path = save(figure, to, "curves")
    return _read([("Learning curves", "Losses and what was measured on the way, against images shown.", path)], to)


def _figures(folder: RunFolder, drawn: Mapping[str, Path]) -> list[Picture]:
    """What the run learned, in the order of CAPTIONS."""
    pictures = []
    for name, told in CAPTIONS.items():
        path = drawn.get(name, folder.figures / f"{name}.png")
        pictures += _read([(*told, path)], path.parent if name in drawn else folder.path)
    return pictures


def _read(pictures: list[tuple[str, str, Path]], folder: Path) -> list[Picture]:
    """Those pictures that are there, in the folder itself; what is no PNG is not one of ours."""
    found = []
    for title, caption, path in pictures:
        if path.is_file() and (png := read_bytes(path, folder)).startswith(b"\x89PNG"):
            found.append(Picture(title, caption, png))
    return found


def _shares(metrics: Mapping[str, Any]) -> list[Shares]:
    """Experts × classes, each row divided by its sum."""
    joint = metrics.get("expert_class")
    if not joint:
        return []
    rows = [[value / (sum(row) or 1) for value in row] for row in joint]
    return [
        Shares(
            "Experts and classes",
            "Of what each expert makes, per cent in each class (as a classifier of the data set sees it); in a sample, "
            "an expert counts by its weight. "
            f"Normalised mutual information {cell(metrics.get('nmi'))}, purity {cell(metrics.get('purity'))}.",
            [f"expert {number}" for number in range(len(rows))],
            [f"{number}" for number in range(len(rows[0]))],
            rows,
        )
    ]


def _levels(metrics: Mapping[str, Any]) -> list[TableOf]:
    """What the levels of a tree say of classes."""
    names = [name for name in ("nmi_by_level", "purity_by_level") if name in metrics]
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
    remark = "nmi: normalised mutual information of nodes and classes; purity: the share of a node's commonest class."
    return [TableOf("The hierarchy and the classes, by level", rows, [remark])]


def _hard(config: Mapping[str, Any]) -> bool:
    """Whether each sample is one expert's alone, and there are several; of a gate of a user's own that is not asked."""
    gate = config["model"]["gate"]
    try:
        trust(gate)
    except ConfigError:
        return False
    return config["model"]["k"] > 1 and bool(attribute(gate[TARGET], "hard"))


def _class(part: Mapping[str, Any]) -> str:
    return str(part.get("_target_", NONE)).rpartition(".")[2]
