"""Save a trained generator as a safetensors file, and load it again."""

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
from mixgan_cli.models.networks import Generator, Networks, build_networks, non_finite
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.io import MAX_CHARS, atomic_write

Size = Annotated[int, Field(gt=0, le=1024)]
SHAPE = TypeAdapter(tuple[Size] | tuple[Size, Size, Size])


def save_generator(path: Path, generator: Generator, model: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Write the weights to a safetensors file whose header holds what is needed to build the generator again.

    Equal generators give equal files, byte by byte.

    Args:
        path: the file.
        generator: the generator, on any device.
        model: the model group of the configuration.
        shape: the shape of one sample.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    write_safetensors(path, tensors, {"model": json.dumps(dict(model)), "shape": json.dumps(shape)})


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, with the entries of its header in order: the library writes metadata in any order.

    The format: the length of the header (8 bytes), the header as JSON padded with spaces, the tensors.

    Args:
        path: the file.
        tensors: tensors of any shape [...] on the CPU, by name.
        metadata: text by name.
    """
    file = save(dict(tensors), metadata)
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with atomic_write(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + file[end:])


class TrainedGenerator(NamedTuple):
    """A trained generator and the metadata of its file."""

    path: Path
    model: Model
    shape: tuple[int, ...]
    """The shape of one sample: (C, H, W) for images, (D,) for points."""
    sampler: Sampler
    nimg: int | None = None
    """Images shown so far; None if the file does not say it."""


def read_generator(path: Path, trusted: Iterable[str] = ()) -> TrainedGenerator:
    """Read a trained generator and its metadata.

    Args:
        path: the file, generator.safetensors.
        trusted: packages other than mixgan whose classes the file may name.

    Raises:
        ConfigError: the file names a class of another package.
        RunError: there is no generator, or its file is damaged.
    """
    trusted = tuple(trusted)
    if not path.is_file():
        raise RunError(f"{path}: there is no generator")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        if len(metadata["model"]) > MAX_CHARS:
            raise ValueError(f"a configuration longer than {MAX_CHARS:,} characters")
        require_finite({"generator": state})
        config = json.loads(metadata["model"])
        shape = SHAPE.validate_python(json.loads(metadata["shape"]))
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError, RuntimeError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(f"{path}: not a generator that mixgan wrote, or damaged ({cause})") from error
    trust(config, trusted)
    model: Model = parse(config, Model)
    with torch.random.fork_rng():
        networks = restore_networks(path, model, shape, {"generator": state}, check_shapes=not trusted)
    return TrainedGenerator(path, model, shape, Sampler(networks.generator.eval().requires_grad_(False)))


def restore_networks(
    path: Path, model: Model, shape: tuple[int, ...], states: Mapping[str, Mapping[str, Tensor]], check_shapes: bool
) -> Networks:
    """Build networks and load the weights of a file into them.

    Args:
        path: the file, for error messages.
        model: the model group of its configuration.
        shape: the shape of one sample.
        states: the state dicts by network, named as in `Networks`; each tensor of any shape [...].
        check_shapes: if true, compare the shapes of the weights before memory is allocated, because a file of a few
            kilobytes could ask for any amount. Components of other packages may not support this.

    Raises:
        RunError: the weights do not belong to this configuration.
    """
    with checkpoint_errors(path):
        if check_shapes:
            with torch.device("meta"):
                _check_shapes(build_networks(model, shape), states)
        networks = build_networks(model, shape)
        for name, state in states.items():
            getattr(networks, name).load_state_dict(state)
    return networks


def require_finite(states: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Check that the weights of a file, tensors of any shape [...], are finite: others give black samples.

    Args:
        states: the state dicts by network.

    Raises:
        ValueError: a tensor holds a NaN or an infinity.
    """
    if names := non_finite(states):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"weights that are not finite: {', '.join(names[:3])}{more}")


@contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn any exception inside into the message that the parts of a file do not belong together.

    Raises:
        RunError: an exception was raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:500]}"
        raise RunError(f"{path}: weights and configuration do not belong together ({reason})") from error


def _check_shapes(networks: Networks, states: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, state in states.items():
        expected = {key: value.shape for key, value in getattr(networks, name).state_dict().items()}
        if expected != {key: value.shape for key, value in state.items()}:
            raise ValueError(f"the tensors of the {name} have other names or shapes")
