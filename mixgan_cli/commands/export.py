"""`mixgan export`: write a generator for others to use: weights, an ONNX model and a model card in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli import __version__
from mixgan_cli.config.commands import ExportCommand
from mixgan_cli.config.components import trust
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import RunError
from mixgan_cli.models.export.onnx import interface, to_onnx
from mixgan_cli.models.export.safetensors import TrainedGenerator, save_generator
from mixgan_cli.reporting.model_card import ExportedModel, model_card
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import atomic_write, write_text
from mixgan_cli.runtime.outputs import output_folder
from mixgan_cli.runtime.reading import inside, read_errors, read_text
from mixgan_cli.training.restore import trained_generator


def run(config: DictConfig) -> dict[str, Any]:
    """Write the folder, and return its path and the names of its files. Everything is checked before it is written.

    Raises:
        RunError: the folder contains the ONNX model of another generator, which would remain.
    """
    settings: ExportCommand = parse(config, ExportCommand)
    trained = trained_generator(settings.run, settings.trusted, settings.checkpoint)
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
        save_generator(folder / "generator.safetensors", generator, model, trained.shape)
        if graph is not None:
            with atomic_write(folder / "generator.onnx") as temporary:
                temporary.write_bytes(graph)
        write_text(folder / "MODEL.md", card)
    names = ["generator.safetensors", *(["generator.onnx"] if settings.onnx else []), "MODEL.md"]
    return {"to": str(to), "files": names}


def _folder(settings: ExportCommand) -> Path:
    source = Path(settings.run)
    if settings.to:
        return Path(settings.to)
    return inside(source / "export", source) if source.is_dir() else source.with_name("export")


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
    sampler, folder = trained.sampler, RunFolder(Path(settings.run))
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
        **of_run,
    )
