"""A trained generator as a file, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mixgan_cli.config import Model, parse
from mixgan_cli.errors import RunError
from mixgan_cli.files import replacing
from mixgan_cli.models.build import build_networks
from mixgan_cli.models.generator import Generator
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.parts import trust
from mixgan_cli.runs import RunFolder


def save_generator(path: Path, generator: Generator, model: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Write the weights as safetensors, with all that is needed to build the network again in the header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    metadata = {"model": json.dumps(dict(model)), "shape": json.dumps(shape)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load(run_or_file: str | Path, trusted: Iterable[str] = ()) -> Sampler:
    """Return a trained generator, ready to sample, on the CPU.

    Args:
        run_or_file: a finished run's folder, or a generator.safetensors.
        trusted: packages besides mixgan whose classes the file may name; a file could name anything.

    Raises:
        ConfigError: the file names a class of another package.
        RunError: there is no generator there, or its file is damaged.
    """
    path = Path(run_or_file)
    path = RunFolder(path).generator if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"{path}: there is no generator (an unfinished run has none yet)")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        described = json.loads(metadata["model"])
        shape = tuple(json.loads(metadata["shape"]))
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: not a generator that mixgan wrote, or damaged ({error})") from error
    trust(described, trusted)
    model: Model = parse(described, Model)
    with torch.random.fork_rng():
        generator = build_networks(model, shape).generator
    generator.load_state_dict(state)
    return Sampler(generator.eval().requires_grad_(False))
