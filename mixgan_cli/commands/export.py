"""`mixgan export`: a generator for others, in one folder: its weights, the same as ONNX, and a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli import __version__
from mixgan_cli.config.components import trust
from mixgan_cli.config.schema import ExportCommand, Run, parse
from mixgan_cli.errors import RunError
from mixgan_cli.models.export.onnx import interface, to_onnx
from mixgan_cli.models.export.safetensors import Trained, read_generator
from mixgan_cli.reporting.card import Exported, model_card, read_results
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import atomic_write, inside, write_errors, write_text


def run(config: DictConfig) -> dict[str, Any]:
    """Write the folder, and return where it is and what is in it. Nothing is written before all is checked.

    Raises:
        RunError: the folder holds another generator's ONNX model, which would stay.
    """
    settings: ExportCommand = parse(config, ExportCommand)
    trained = read_generator(settings.run, settings.trusted)
    card = model_card(_exported(settings, trained))
    graph = to_onnx(trained.sampler, _about(trained)) if settings.onnx else None
    with write_errors(f"to={settings.to}"):
        to = _folder(settings)
        if graph is None and (to / "generator.onnx").exists():
            raise RunError(
                f"to={to}: there is a generator.onnx in it already, which with onnx=false would stay beside another "
                "generator. Take another folder, or onnx=true"
            )
        with atomic_write(to / "generator.safetensors") as temporary:
            shutil.copyfile(trained.path, temporary)
        if graph is not None:
            with atomic_write(to / "generator.onnx") as temporary:
                temporary.write_bytes(graph)
        write_text(to / "MODEL.md", card)
    names = ["generator.safetensors", *(["generator.onnx"] if settings.onnx else []), "MODEL.md"]
    return {"to": str(to), "files": names}


def _folder(settings: ExportCommand) -> Path:
    source = Path(settings.run)
    if settings.to:
        return Path(settings.to)
    return inside(source / "export", source) if source.is_dir() else source.with_name("export")


def _about(trained: Trained) -> dict[str, str]:
    """The configuration, as the safetensors have it, for the ONNX model."""
    return {
        "mixgan": __version__,
        "model": json.dumps(trained.model.model_dump(mode="json")),
        "shape": json.dumps(trained.shape),
    }


def _exported(settings: ExportCommand, trained: Trained) -> Exported:
    """What there is to say: of a run's generator all, of a file what is in it."""
    sampler, folder = trained.sampler, RunFolder(Path(settings.run))
    told: dict[str, Any] = {}
    if folder.path.is_dir():
        stored = folder.read_config()
        trust(stored, settings.trusted)
        told = {"run": parse(stored, Run), "results": read_results(folder.read_results(), folder.results)}
    return Exported(
        trained.model,
        trained.shape,
        sampler.hard,
        sum(parameter.numel() for parameter in sampler.parameters()),
        interface(sampler) if settings.onnx else {},
        settings.trusted,
        **told,
    )
