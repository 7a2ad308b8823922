"""One run as the page tells it, read from its folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixgan_cli.composition import name_of_data
from mixgan_cli.errors import ConfigError
from mixgan_cli.parts import TARGET, attribute, trust
from mixgan_cli.reporting import curves
from mixgan_cli.reporting.figures import CAPTIONS, as_png, save
from mixgan_cli.reporting.page import Picture, RunPage, Shares, TableOf
from mixgan_cli.reporting.tables import NONE, cell
from mixgan_cli.runs import RunFolder

COMPANIONS = ("_std", "_sd")
LARGEST = 8 << 20
"""Bytes of a picture that the page takes in."""


def portrait(folder: RunFolder, name: str, drawn: Path) -> RunPage:
    """Return what is told of a run, finished or not.

    Args:
        folder: the run's, from which all is read.
        name: what tells it from others.
        drawn: figures of it that the page has drawn; its learning curves are written there.

    Raises:
        RunError: its configuration cannot be read, or it is finished and its results cannot.
    """
    config = folder.read_config()
    results = folder.read_results() if folder.results.is_file() else {"metrics": {}, "unavailable": {}}
    metrics, protocol = results["metrics"], results.get("protocol", {})
    failed = folder.path / "FAILED"
    status = "done" if folder.done else "failed" if failed.is_file() else "not finished"
    return RunPage(
        anchor=f"run-{re.sub(r'[^A-Za-z0-9_-]+', '-', folder.path.name)}",
        name=name,
        status=status,
        error=failed.read_text(encoding="utf-8", errors="replace")[:4000] if status == "failed" else None,
        facts=_facts(folder, config, results.get("run", {})),
        metrics=_metrics(metrics),
        unavailable=results["unavailable"],
        protocol=protocol,
        pictures=[*_samples(folder, _hard(config)), *_curves(folder, drawn), *_figures(folder, drawn)],
        shares=_shares(metrics),
        tables=_levels(metrics),
    )


def _facts(folder: RunFolder, config: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    environment = _read_json(folder.path / "environment.json")
    model = config["model"]
    parameters = ", ".join(f"{part} {count:,}" for part, count in run.get("parameters", {}).items())
    dirty = " (with uncommitted changes)" if environment.get("git_dirty") else ""
    facts = {
        "folder": folder.path,
        "data": name_of_data(config["data"]),
        "model": f"{model['name']}, K = {model['k']}"
        + (f", β = {model['beta']:g}" if model.get("beta") else "")
        + "".join(f", {part} {_class(model[part])}" for part in ("gate", "experts", "head")),
        "objective": f"{_class(config['objective']['adversarial'])}, "
        f"discriminator steps for each of the generator: {config['objective']['d_steps']}",
        "seed": config["seed"],
        "images shown": _length(folder, config, run),
        "time": f"{run['seconds']:,.0f} s of training, {run['img_per_second']:,.0f} images a second"
        if "seconds" in run
        else None,
        "parameters": parameters or None,
        "device": environment.get("device")
        and f"{environment['device']}, {environment.get('precision', '')}".strip(", "),
        "versions": ", ".join(
            f"{key} {environment[key]}" for key in ("mixgan", "torch", "python") if key in environment
        ),
        "commit": environment.get("git_commit") and f"{environment['git_commit']}{dirty}",
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _length(folder: RunFolder, config: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """How far the run is: by its results, or by its log."""
    wanted = config["training"]["nimg"]
    logged = max((points[-1][0] for points in curves.read(folder.metrics).values()), default=0)
    shown = int(run.get("nimg", logged))
    more = " (whole batches)" if shown > wanted else "" if shown == wanted else "; the same command goes on"
    return f"{shown:,} of {wanted:,}{more}"


def _metrics(metrics: Mapping[str, Any]) -> TableOf | None:
    rows = []
    for name, value in metrics.items():
        if isinstance(value, (int, float)) and not name.endswith(COMPANIONS):
            companion = next((metrics[name + end] for end in COMPANIONS if name + end in metrics), None)
            rows.append({"metric": name, "value": value, **({} if companion is None else {"±": companion})})
        elif name in ("expert_usage", "fid_by_expert", "ms_ssim_by_expert") or name.startswith("fid_by_expert"):
            rows.append({"metric": name, "value": ", ".join(f"{entry:.3g}" for entry in value)})
    return TableOf("Metrics", rows) if rows else None


def _samples(folder: RunFolder, hard: bool) -> list[Picture]:
    pictures = sorted(folder.samples.glob("[0-9]*.png"))
    if not pictures:
        return []
    rows = " Each row is one expert's." if hard else ""
    caption = f"Drawn from fixed latents after {int(pictures[-1].stem):,} images.{rows}"
    return _read([("Samples", caption, pictures[-1])])


def _curves(folder: RunFolder, to: Path) -> list[Picture]:
    figure = curves.draw(curves.read(folder.metrics))
    if figure is None:
        return []
    save(figure, to, "curves")
    return [
        Picture("Learning curves", "Losses and what was measured on the way, against images shown.", as_png(figure))
    ]


def _figures(folder: RunFolder, drawn: Path) -> list[Picture]:
    """What the run learned: of each figure the one that the page drew, else the run's own."""
    pictures = []
    for name, told in CAPTIONS.items():
        own = drawn / f"{name}.png"
        pictures.append((*told, own if own.is_file() else folder.figures / own.name))
    return _read(pictures)


def _read(pictures: list[tuple[str, str, Path]]) -> list[Picture]:
    """The pictures that there are; what is no PNG, or too large for a page, is not one of ours."""
    found = []
    for title, caption, path in pictures:
        if path.is_file() and path.stat().st_size <= LARGEST and (png := path.read_bytes()).startswith(b"\x89PNG"):
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _class(part: Mapping[str, Any]) -> str:
    return str(part.get("_target_", NONE)).rpartition(".")[2]
