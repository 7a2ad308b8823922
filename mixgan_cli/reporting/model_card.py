"""The model card (Mitchell et al. 2019) of an exported generator: what it is, how good, how to use it, and its limits.

Every value comes from the run's config.yaml and results.json. Unknown values are left out or stated as unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from mixgan_cli import __version__
from mixgan_cli.config.components import TARGET, class_name
from mixgan_cli.config.schema import Model, Run
from mixgan_cli.runs import Results

PAPERS: Mapping[str, tuple[str, ...]] = {
    "gan": ("goodfellow2014gan",),
    "mog": ("ahmetoglu2020hmog",),
    "hmog": ("ahmetoglu2020hmog",),
    "madgan": ("ghosh2018madgan",),
    "madgan_sim": ("ghosh2018madgan",),
    "mggan": ("hoang2018mgan",),
    "d2gan": ("nguyen2017d2gan",),
    "dmgan": ("khayatkhoei2018dmgan",),
    "mix_gan": ("arora2017mixgan",),
    "megan": ("park2018megan",),
    "megan_hidden": ("park2018megan", "ahmetoglu2020hmog"),
}
"""Keys of templates/papers.bib by the name of the model; a user's own model has none."""


@dataclass(frozen=True)
class ExportedModel:
    """A generator that is exported."""

    model: Model
    shape: tuple[int, ...]
    hard: bool
    """True if each sample comes from a single expert."""
    parameters: int
    interface: Mapping[str, str]
    """Inputs and outputs of the ONNX model with their descriptions; empty without one."""
    trusted: Sequence[str]
    """Packages other than mixgan that its components come from."""
    dtype: str = "float32"
    """The type of the weights in the file."""
    run: Run | None = None
    results: Results | None = None
    """Of a finished run; None for another state of a run, or a file."""
    nimg: int | None = None
    """Images shown so far, if it is another state of a run."""

    @property
    def data(self) -> str | None:
        """The name of its data set as Markdown code."""
        return f"`{self.run.data['name']}`" if self.run else None


def model_card(exported: ExportedModel) -> str:
    """Return the card as Markdown, preceded by the metadata that the Hugging Face Hub reads.

    Raises:
        TypeError, ValueError, LookupError: the results of the run are not what mixgan writes.
    """
    metrics = exported.results.metrics if exported.results else {}
    short = {name: text for name, value in metrics.items() if (text := _format_metric(value))}
    return _template().render(
        model=exported.model,
        shape=exported.shape,
        data=exported.data,
        interface=exported.interface,
        trusted=list(exported.trusted),
        results=exported.results,
        nimg=exported.nimg,
        version=__version__,
        metadata=yaml.safe_dump(_metadata(exported), sort_keys=False),
        facts=_facts(exported),
        samples=_describe_samples(exported.shape),
        metrics=short,
        long_metrics=[f"`{name}`" for name in metrics if name not in short],
        papers=[bibliography()[key] for key in PAPERS.get(exported.model.name, ())],
    )


@cache
def bibliography() -> dict[str, str]:
    """Return the BibTeX entries of the models' papers, by key."""
    text = Path(__file__).with_name("templates").joinpath("papers.bib").read_text(encoding="utf-8")
    entries = [entry.strip() for entry in re.split(r"\n\n(?=@)", text)]
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}


def _metadata(exported: ExportedModel) -> dict[str, Any]:
    tags = ["gan", "mixture-of-experts", exported.model.name, "pytorch", "safetensors"]
    task = {"pipeline_tag": "unconditional-image-generation"} if len(exported.shape) == 3 else {}
    return {"library_name": "mixgan", **task, "tags": [*tags, "onnx"] if exported.interface else tags}


def _facts(exported: ExportedModel) -> dict[str, str]:
    """Return the rows of the table about the model and its training."""
    model, run, results = exported.model, exported.run, exported.results
    prior = "N(0, 1)" if model.latent.distribution == "normal" else "uniform on [-1, 1]"
    combination = "each sample comes from one expert" if exported.hard else "each sample mixes all experts"
    facts = {
        "samples": _describe_samples(exported.shape),
        "latent": f"{model.latent.size} coordinates, {prior}",
        "experts (K)": f"{model.k}, {_class_name(model.experts)}",
        "gate": f"{_class_name(model.gate)}: {combination}",
        "head": _class_name(model.head) + (f", diversity with β = {model.beta:g}" if model.beta else ""),
        "backbone": _class_name(model.backbone)
        + (f", {model.backbone['channels']} channels" if "channels" in model.backbone else ""),
        "parameters": f"{exported.parameters:,}",
        "type of the weights": f"`{exported.dtype}`",
    }
    if run is None:
        return facts | {"data set": "not known", "trained for": "not known"}
    half_life, nimg = run.training.ema_half_life_nimg, exported.nimg
    if results is not None:
        counts, nimg = results.run["parameters"], int(results.run["nimg"])
        parts = [f"{part} {int(counts[part]):,}" for part in ("gate", "experts", "trunk") if part in counts]
        facts["parameters"] += f": {', '.join(parts)}"
    return facts | {
        "data set": f"{exported.data}",
        "trained for": f"{nimg:,} real images shown to the discriminator, in batches of {run.training.batch}",
        "objective": f"{_class_name(run.objective.adversarial)}, penalty {_class_name(run.objective.penalty)}",
        "weights": f"moving average, half-life {half_life:,} real images shown, shorter at the start"
        if run.evaluation.ema and half_life
        else "as trained, without a moving average",
        "seed": f"{run.seed}",
    }


def _describe_samples(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"points of {shape[0]} coordinates"
    channels, height, width = shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{colours} images, {height}×{width} pixels"


def _class_name(component: Mapping[str, Any]) -> str:
    """Return the class of a component as Markdown code, because the file's author chose it."""
    return f"`{class_name(component[TARGET])}`"


def _format_metric(value: Any) -> str:
    """Return a metric as text; empty if it is a table."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(number, (int, float)) for number in values):
        return ""
    return ", ".join(f"{number:.4g}" for number in values)


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("mixgan_cli.reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; texts of the file's author appear only as JSON in a code block
    )
    environment.filters["json"] = lambda value: json.dumps(value, indent=2)
    return environment.get_template("card.md.j2")
