"""`mixgan sample`: draw samples from a run or a generator.safetensors, as images or arrays."""

from __future__ import annotations

import filecmp
import math
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from mixgan_cli.api import load
from mixgan_cli.config.commands import SampleCommand
from mixgan_cli.config.parse import parse
from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.networks import GeneratorOutput
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots.run import write_grid
from mixgan_cli.reporting.plots.save import write_figure
from mixgan_cli.reporting.plots.toy2d import draw_scatter
from mixgan_cli.reporting.read_run import open_png
from mixgan_cli.runtime.device import resolve_hardware
from mixgan_cli.runtime.io import atomic_write, write_errors
from mixgan_cli.runtime.outputs import output_file, output_folder
from mixgan_cli.runtime.reading import inside, read_bytes
from mixgan_cli.training.restore import default_output

SUFFIXES = {"grid": (".png", ""), "npz": (".npz", ""), "png": ("",)}
"""Suffixes that `to` may have."""
SOFTWARE = "mixgan sample"
"""Text in a PNG by which the command knows that it wrote it."""
ARRAYS = {"images", "latents", "weights"}
"""Arrays of each .npz."""
WRITES = {"grid": "format=grid writes a PNG", "npz": "format=npz writes an .npz", "png": "format=png writes a folder"}


def run(config: DictConfig) -> dict[str, Any]:
    """Draw samples, write them, and return their path.

    Raises:
        ConfigError: the suffix of `to` does not fit the format.
    """
    settings: SampleCommand = parse(config, SampleCommand)
    if settings.to and Path(settings.to).suffix.lower() not in SUFFIXES[settings.format]:
        raise ConfigError(f"to={settings.to}: {WRITES[settings.format]}. Use another name, or another format")
    compute = resolve_hardware(settings.hardware)
    sampler = load(settings.run, settings.trusted, settings.checkpoint)
    compute.place(sampler)
    fakes = sampler.draw(settings.n, settings.seed, settings.expert, settings.truncation)
    to = _write(settings, sampler, fakes)
    return {"to": str(to), **settings.model_dump(include={"n", "seed", "expert", "truncation"})}


def _write(settings: SampleCommand, sampler: Sampler, fakes: GeneratorOutput) -> Path:
    samples = fakes.samples
    expert = "" if settings.expert is None else f"-expert{settings.expert}"
    truncation = "" if settings.truncation is None else f"-truncation{settings.truncation:g}"
    checkpoint = "" if settings.checkpoint is None else f"-{settings.checkpoint}"
    name = f"seed{settings.seed}{expert}{truncation}{checkpoint}-n{settings.n}"
    file_name = name + {"npz": ".npz", "png": "", "grid": ".png"}[settings.format]
    to = Path(settings.to) if settings.to else default_output(settings.run, "samples", file_name)
    in_run = not settings.to and Path(settings.run).is_dir()
    if in_run:
        inside(to, Path(settings.run))
    if settings.format == "png":
        _need_images(samples, "png")
        with output_folder(to, listed=False) as folder:
            for number, image in enumerate(_channels_last(samples)):
                Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(folder / f"{number:06d}.png")
            _check_no_others(to, folder)
        return to
    with (
        write_errors(f"to={to}"),
        atomic_write(to) if in_run else output_file(to, _is_own, settings.force) as temporary,
    ):
        if settings.format == "npz":
            with temporary.open("wb") as file:
                np.savez(file, **_arrays(settings, sampler, fakes))
        elif samples.dim() == 2:
            write_figure(draw_scatter(samples, None, fakes.weights_BK.argmax(dim=1), name), temporary, SOFTWARE)
        else:
            write_grid(temporary, samples, math.ceil(math.sqrt(len(samples))), SOFTWARE)
    return to


def _is_own(path: Path) -> bool:
    """Return whether a file is a grid or arrays that this command wrote."""
    if zipfile.is_zipfile(path):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as arrays:
            names = {name.removesuffix(".npy") for name in arrays.namelist()}
            return ARRAYS <= names <= ARRAYS | {"experts"}
        return False
    picture = open_png(read_bytes(path, path.parent))
    return picture is not None and picture.info.get("Software") == SOFTWARE


def _check_no_others(to: Path, folder: Path) -> None:
    """Check that a folder holds no other files than equal ones, which the same command wrote before it was killed.

    Raises:
        RunError: it holds others.
    """
    there = [path.name for path in to.glob("[!.]*")]
    if filecmp.cmpfiles(to, folder, there, shallow=False)[0] != there:
        raise RunError(f"to={to}: the folder is not empty, and samples would be mixed up. Give another folder")


def _arrays(settings: SampleCommand, sampler: Sampler, fakes: GeneratorOutput) -> dict[str, Any]:
    """Return the samples with their latents, mixture weights and experts."""
    hard = {"experts": fakes.weights_BK.argmax(dim=1).numpy()} if sampler.hard else {}
    return {
        "images": _channels_last(fakes.samples),
        "latents": sampler.latents(settings.n, settings.seed, settings.truncation).numpy(),
        "weights": fakes.weights_BK.numpy(),
        **hard,
    }


def _channels_last(samples: Tensor) -> np.ndarray:
    return (samples.permute(0, 2, 3, 1) if samples.dim() == 4 else samples).numpy()


def _need_images(samples: Tensor, form: str) -> None:
    if samples.dim() != 4:
        raise ConfigError(f"format={form}: this run generates points; use format=grid or npz")
