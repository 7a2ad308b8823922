"""The model card (Mitchell et al. 2019) of an exported generator: what it is, how good, how to use it, and its limits.

Every figure is the run's own, from config.yaml and results.json; what is not known is left out, or said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from mixgan_cli import __version__
from mixgan_cli.config.components import TARGET
from mixgan_cli.config.schema import Model, Run
from mixgan_cli.errors import RunError
from mixgan_cli.reporting import papers

Word = Annotated[str, Field(pattern=r"^[\w.+-]{1,100}$")]
"""Of a metric or a part: it stands in a table."""


class About(BaseModel):
    """What results.json says of the training."""

    nimg: int
    parameters: dict[Word, int]


class Results(BaseModel):
    """What a card takes from results.json."""

    run: About
    protocol: dict[str, Any]
    metrics: dict[Word, Any]
    unavailable: dict[Word, str]


@dataclass(frozen=True)
class Exported:
    """What is exported."""

    model: Model
    shape: tuple[int, ...]
    hard: bool
    """Whether each sample is one expert's alone."""
    parameters: int
    interface: Mapping[str, str]
    """Inputs and outputs of the ONNX model and what each is; empty where there is none."""
    trusted: Sequence[str]
    """Packages besides mixgan that its parts come from."""
    run: Run | None = None
    results: Results | None = None

    @property
    def data(self) -> str | None:
        """The class of its data set."""
        return _name(self.run.data) if self.run else None


def read_results(results: Mapping[str, Any], path: object) -> Results:
    """Return what a card takes from results.json.

    Raises:
        RunError: mixgan has not written this.
    """
    try:
        return Results.model_validate(results)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))[:100]
        raise RunError(f"{path}: not results that mixgan wrote ({where}: {problem['msg']})") from error


def model_card(exported: Exported) -> str:
    """Return the card as Markdown, with the metadata in front that Hugging Face's hub reads."""
    sections = {
        "": _what(exported),
        "Metrics": _metrics(exported.results),
        "Use": _use(exported),
        "Limits": _limits(exported),
        "Citation": _citation(exported.model.name),
    }
    told = [f"---\n{yaml.safe_dump(_metadata(exported), sort_keys=False)}---"]
    for title, parts in sections.items():
        told += [f"## {title}"] * bool(title) + [*parts]
    return "\n\n".join(told) + "\n"


def _metadata(exported: Exported) -> dict[str, Any]:
    tags = ["gan", "mixture-of-experts", exported.model.name, "pytorch", "safetensors"]
    task = {"pipeline_tag": "unconditional-image-generation"} if len(exported.shape) == 3 else {}
    return {"library_name": "mixgan", **task, "tags": [*tags, "onnx"] if exported.interface else tags}


def _what(exported: Exported) -> Iterator[str]:
    model, run, results = exported.model, exported.run, exported.results
    yield f"# {model.name} with {model.k} {'expert' if model.k == 1 else 'experts'}" + (
        f", trained on {exported.data}" if exported.data else ""
    )
    yield (
        "A generator of a generative adversarial network: a gate, experts, and what they share. Exported by "
        f"mixgan {__version__}."
    )
    prior = "N(0, 1)" if model.latent.distribution == "normal" else "uniform on [-1, 1]"
    combined = "each sample is one expert's" if exported.hard else "each sample mixes all experts"
    rows = {
        "samples": _samples(exported.shape),
        "latent": f"{model.latent.size} coordinates, {prior}",
        "experts (K)": f"{model.k}, {_name(model.experts)}",
        "gate": f"{_name(model.gate)}: {combined}",
        "head": _name(model.head) + (f", diversity with β = {model.beta:g}" if model.beta else ""),
        "backbone": _name(model.backbone)
        + (f", {model.backbone['channels']} channels" if "channels" in model.backbone else ""),
        "parameters": f"{exported.parameters:,}",
    }
    if results:
        counts = results.run.parameters
        own = [f"{name} {counts[name]:,}" for name in ("gate", "experts", "trunk") if name in counts]
        rows["parameters"] += f": {', '.join(own)}"
    if run and results:
        half_life = run.training.ema_half_life_nimg
        rows |= {
            "data set": f"{exported.data}",
            "trained for": f"{results.run.nimg:,} real samples shown to the discriminator, in batches of "
            f"{run.training.batch}",
            "objective": f"{_name(run.objective.adversarial)}, penalty {_name(run.objective.penalty)}",
            "weights": f"moving average, half-life {half_life:,} real samples shown, less early on"
            if run.evaluation.ema and half_life
            else "as trained, no moving average",
            "seed": f"{run.seed}",
        }
    else:
        rows |= {"data set": "not known", "trained for": "not known"}
    yield _table(rows)


def _metrics(results: Results | None) -> Iterator[str]:
    if results is None:
        yield "Not known: this was exported from a generator's file, which holds none."
        return
    shown = {name: _figures(value) for name, value in results.metrics.items()}
    if any(shown.values()):
        yield _table({name: figures for name, figures in shown.items() if figures}, ("metric", "value"))
    else:
        yield "None was measured."
    if left_out := [f"`{name}`" for name, figures in shown.items() if not figures]:
        yield f"In the run's `results.json`, too large for here: {', '.join(left_out)}."
    yield "Numbers of different protocols do not compare. These were obtained by this one:"
    yield _json(results.protocol)
    if results.unavailable:
        yield "Not measured, and why:"
        yield _json(results.unavailable)


def _use(exported: Exported) -> Iterator[str]:
    trusted = f", trusted={[*exported.trusted]}" if exported.trusted else ""
    kind = "uint8" if len(exported.shape) == 3 else "float32"
    size = ", ".join(map(str, exported.shape))
    yield "With mixgan, whose configuration is in the file:"
    yield (
        "```python\nimport mixgan_cli\n\n"
        f'generator = mixgan_cli.load("generator.safetensors"{trusted})\n'
        f"samples = generator.sample(16, seed=0)  # {kind} [16, {size}]\n```"
    )
    alone = f"`expert=k` takes one expert alone, 0 to {exported.model.k - 1}; " if exported.model.k > 1 else ""
    yield f"{alone}`truncation=t` takes latents with |z| ≤ t in each coordinate."
    if not exported.interface:
        return
    apart = "one level of 255" if len(exported.shape) == 3 else "a ten-thousandth of the largest coordinate"
    yield (
        "Without mixgan or torch, `generator.onnx`. On random latents onnxruntime made the same of it as torch of the "
        f"generator, to {apart}."
    )
    yield "\n".join(f"- `{name}`: {told}" for name, told in exported.interface.items())
    latent_size, output = exported.model.latent.size, "images" if len(exported.shape) == 3 else "points"
    normal = exported.model.latent.distribution == "normal"
    draw = f"standard_normal((16, {latent_size}))" if normal else f"uniform(-1, 1, (16, {latent_size}))"
    lines = [
        "import numpy as np", "import onnxruntime", "",
        "rng = np.random.default_rng(0)",
        'session = onnxruntime.InferenceSession("generator.onnx")',
        f'inputs = {{"latent": rng.{draw}.astype(np.float32)}}',
    ]  # fmt: skip
    if "expert" in exported.interface:
        lines += [
            'inputs["expert"] = np.zeros(16, np.int64)',
            '(weights,) = session.run(["weights"], inputs)  # how likely the gate chooses each expert',
            'inputs["expert"] = (weights.cumsum(axis=1) > rng.random((16, 1))).argmax(axis=1)',
        ]
    lines.append(f'({output},) = session.run(["{output}"], inputs)')
    yield "\n".join(["```python", *lines, "```"])


def _limits(exported: Exported) -> Iterator[str]:
    things = "images" if len(exported.shape) == 3 else "points"
    limits = [
        f"It makes {_samples(exported.shape)} of noise: nothing can be asked for, neither a class nor a text.",
        f"It knows its training set{f' ({exported.data})' if exported.data else ''} alone. What that lacks, or has too "
        "much of, its samples lack or have too much of.",
        "How near its samples come to single training samples has not been measured. Do not use it where none may be "
        "repeated.",
        f"Its {things} are made up. Do not use them as evidence of anything, nor of anyone, that exists.",
        "No licence is stated here: that of the training set may bind what is made with it.",
    ]
    if exported.model.k > 1:
        limits.append("What an expert makes was learned, not chosen; another seed may share the data out otherwise.")
    if exported.results is None:
        limits.append("Nothing is known of how good it is.")
    elif exported.results.unavailable:
        limits.append("Not all metrics could be measured: see above.")
    yield "\n".join(f"- {limit}" for limit in limits)


def _citation(name: str) -> Iterator[str]:
    known = papers.OF_MODELS.get(name, ())
    if not known:
        yield f"No paper is known for a model called `{name}`."
        return
    yield "The model's paper; the parts above say where this one may differ from it."
    yield "\n".join(["```bibtex", *known, "```"])


def _samples(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"points of {shape[0]} coordinates"
    channels, height, width = shape
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{colours} images, {height}×{width} pixels"


def _name(part: Mapping[str, Any]) -> str:
    """The class of a part, as code: whoever wrote the file named it."""
    return f"`{part[TARGET].rpartition('.')[2]}`"


def _figures(value: Any) -> str:
    """A metric as text; empty where it is a table itself."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(number, (int, float)) for number in values):
        return ""
    return ", ".join(f"{number:.4g}" for number in values)


def _table(rows: Mapping[str, str], head: tuple[str, str] = ("", "")) -> str:
    lines = [head, ("---", "---"), *rows.items()]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)


def _json(value: Any) -> str:
    """A value of whoever wrote the file, as code: no line of it can end the block."""
    return f"```json\n{json.dumps(value, indent=2)}\n```"
