"""`mixgan export`: write a generator for others to use: weights, an ONNX model and a model card in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from mixgan_cli import __version__
from mixgan_cli.config.commands import ExportCommand
from mixgan_cli.config.components import trust
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.export.onnx import interface, to_onnx
from mixgan_cli.models.export.safetensors import TrainedGenerator, save_generator
from mixgan_cli.models.pretrained import pretrained_folder, pretrained_name
from mixgan_cli.reporting.model_card import ExportedModel, model_card
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import atomic_write, write_text
from mixgan_cli.runtime.outputs import output_folder
from mixgan_cli.runtime.reading import inside, read_errors, read_text
from mixgan_cli.training.restore import default_output, trained_generator


def run(config: DictConfig) -> dict[str, Any]:
    """Write the folder, and return its path and the names of its files. Everything is checked before it is written.

    Raises:
        ConfigError: a weight is too large for `dtype`.
        RunError: the folder contains the ONNX model of another generator, which would remain.
    """
    settings: ExportCommand = parse(config, ExportCommand)
    trained = trained_generator(settings.run, settings.trusted, settings.checkpoint)
    dtype = _round_weights(trained, settings.dtype)
    exported = _exported(settings, trained)
    with read_errors(RunFolder(Path(settings.run)).results):
        card = model_card(exported)
    graph = to_onnx(trained.sampler, _metadata(trained)) if settings.onnx else None
    to = _folder(settings)
    if graph is None and (to / "generator.onnx").exists():
        raise RunError(
            f"to={to}: contains a generator.onnx, which onnx=false would leave next to another generator. "
            "Use another folder, or onnx=true"
        )
    generator, model = trained.sampler.generator, trained.model.model_dump(mode="json")
    with output_folder(to, _is_older, settings.force) as folder:
        save_generator(folder / "generator.safetensors", generator, model, trained.shape, dtype)
        if graph is not None:
            with atomic_write(folder / "generator.onnx") as temporary:
                temporary.write_bytes(graph)
        write_text(folder / "MODEL.md", card)
    names = ["generator.safetensors", *(["generator.onnx"] if settings.onnx else []), "MODEL.md"]
    return {"to": str(to), "files": names}


def _round_weights(trained: TrainedGenerator, name: str) -> torch.dtype:
    """Round the weights to the dtype `name`, in place, so that all exported files have the same. Return the dtype."""
    dtype: torch.dtype = getattr(torch, name)
    for key, tensor in trained.sampler.generator.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))
            if not tensor.isfinite().all():
                raise ConfigError(f"dtype={name}: {key} has values that are too large for it. Use float32")
    return dtype


def _folder(settings: ExportCommand) -> Path:
    if settings.to:
        return Path(settings.to)
    to, source = default_output(settings.run, "", "export"), Path(settings.run)
    return inside(to, source) if source.is_dir() else to


def _is_older(file: Path) -> bool:
    """Return whether the folder of a file has a model card of mixgan, and the file is none that people edit."""
    card = file.with_name("MODEL.md")
    own = card.is_file() and "\nlibrary_name: mixgan\n" in read_text(card, card.parent)
    return own and file.name != card.name


def _metadata(trained: TrainedGenerator) -> dict[str, str]:
    """Return the metadata of the ONNX model: the configuration, as in the safetensors file."""
    return {
        "mixgan": __version__,
        "model": json.dumps(trained.model.model_dump(mode="json")),
        "shape": json.dumps(trained.shape),
    }


def _exported(settings: ExportCommand, trained: TrainedGenerator) -> ExportedModel:
    """Return what the card needs: with the run if one is exported and not a file, and its results if it is finished."""
    sampler, name = trained.sampler, pretrained_name(settings.run)
    folder = RunFolder(Path(settings.run) if name is None else pretrained_folder(name))
    of_run: dict[str, Any] = {}
    if folder.path.is_dir():
        stored = folder.read_config()
        trust(stored, settings.trusted)
        of_run = {"run": parse(stored, Run), "nimg": trained.nimg}
        if trained.nimg is None:  # the generator of a finished run
            of_run["results"] = folder.read_results()
    return ExportedModel(
        trained.model,
        trained.shape,
        sampler.hard,
        sum(parameter.numel() for parameter in sampler.parameters()),
        interface(sampler) if settings.onnx else {},
        settings.trusted,
        settings.dtype,
        **of_run,
    )
