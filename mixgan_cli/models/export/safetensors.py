"""A trained generator as a file, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mixgan_cli.config.components import trust
from mixgan_cli.config.schema import Model, parse
from mixgan_cli.errors import RunError, UserError
from mixgan_cli.models.networks import Generator, Networks, build_networks
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import MAX_CHARS, atomic_write

Length = Annotated[int, Field(gt=0, le=1024)]
SHAPE = TypeAdapter(tuple[Length] | tuple[Length, Length, Length])


def save_generator(path: Path, generator: Generator, model: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Write the weights as safetensors, with all that is needed to build the network again in the header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    metadata = {"model": json.dumps(dict(model)), "shape": json.dumps(shape)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


class Trained(NamedTuple):
    """A trained generator, and what its file says of it."""

    path: Path
    model: Model
    shape: tuple[int, ...]
    """Of one sample: (C, H, W) of images, (D,) of points."""
    sampler: Sampler


def read_generator(run_or_file: str | Path, trusted: Iterable[str] = ()) -> Trained:
    """Return a trained generator as `load` does, and what its file says of it.

    Raises:
        ConfigError: the file names a class of another package.
        RunError: there is no generator there, or its file is damaged.
    """
    path, trusted = Path(run_or_file), tuple(trusted)
    path = RunFolder(path).generator if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"{path}: there is no generator (an unfinished run has none yet; its command, again, goes on)")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        if len(metadata["model"]) > MAX_CHARS:
            raise ValueError(f"a configuration longer than {MAX_CHARS:,} characters")
        described = json.loads(metadata["model"])
        shape = SHAPE.validate_python(json.loads(metadata["shape"]))
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(f"{path}: not a generator that mixgan wrote, or damaged ({told})") from error
    trust(described, trusted)
    model: Model = parse(described, Model)
    with torch.random.fork_rng():
        networks = restored(path, model, shape, {"generator": state}, careful=not trusted)
    return Trained(path, model, shape, Sampler(networks.generator.eval().requires_grad_(False)))


def restored(
    path: Path, model: Model, shape: tuple[int, ...], states: Mapping[str, Mapping[str, Tensor]], careful: bool
) -> Networks:
    """Return the networks of a file, with the weights that are in it.

    Args:
        path: of the file.
        model: its configuration.
        shape: of one sample.
        states: of the networks, by their names in `Networks`; each tensor of any shape [...].
        careful: whether the weights' sizes are compared before there is memory for them: a file of some kilobytes could
            ask for any number of gigabytes. A part of a user's own may not stand being built without memory.

    Raises:
        RunError: the weights are not this configuration's.
    """
    with belonging(path):
        if careful:
            with torch.device("meta"):
                _compare(build_networks(model, shape), states)
        networks = build_networks(model, shape)
        for name, state in states.items():
            getattr(networks, name).load_state_dict(state)
    return networks


@contextmanager
def belonging(path: Path) -> Iterator[None]:
    """Say of what goes wrong inside, whatever it is, that the file's parts do not fit: its arguments came from there.

    Raises:
        RunError: something went wrong.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:500]}"
        raise RunError(f"{path}: weights and configuration do not belong together ({reason})") from error


def _compare(networks: Networks, states: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, state in states.items():
        wanted = {key: value.shape for key, value in getattr(networks, name).state_dict().items()}
        if wanted != {key: value.shape for key, value in state.items()}:
            raise ValueError(f"the {name}'s tensors have other names or sizes")
