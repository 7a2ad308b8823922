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
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mixgan_cli.config.components import trust
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Model
from mixgan_cli.errors import RunError, UserError
from mixgan_cli.models.networks import Generator, Networks, build_networks, non_finite
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.io import atomic_write
from mixgan_cli.runtime.reading import MAX_CHARS

MAX_TENSORS = 2**16
"""Most tensors in a file that is read."""
Size = Annotated[int, Field(gt=0, le=1024)]
SHAPE = TypeAdapter(tuple[Size] | tuple[Size, Size, Size])


def save_generator(
    path: Path,
    generator: Generator,
    model: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write the weights to a safetensors file whose header holds what is needed to build the generator again.

    Equal generators give equal files, byte by byte.

    Args:
        path: the file.
        generator: the generator, on any device.
        model: the model group of the configuration.
        shape: the shape of one sample.
        dtype: of the weights in the file; `read_generator` returns them as float32.
    """
    tensors = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in generator.state_dict().items()
    }
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


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file of any name: the library itself takes only names in UTF-8. Raises SafetensorError."""
    with path.open("rb") as file, safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as tensors:
        yield tensors


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
        with open_safetensors(path) as stored:
            metadata, names = stored.metadata() or {}, stored.keys()
            if len(metadata["model"]) > MAX_CHARS or len(names) > MAX_TENSORS:
                raise ValueError(f"a configuration longer than {MAX_CHARS:,} characters, or {len(names):,} tensors")
            config = json.loads(metadata["model"])
            shape = SHAPE.validate_python(json.loads(metadata["shape"]))
            trust(config, trusted)
            model: Model = parse(config, Model)
            if not trusted:  # before the tensors are read
                with torch.device("meta"):
                    sizes = {name: torch.empty(stored.get_slice(name).get_shape()) for name in names}
                check_shapes(path, model, shape, {"generator": sizes})
            state = {name: stored.get_tensor(name) for name in names}
        require_finite({"generator": state})
    except (OSError, MemoryError, SafetensorError, KeyError, ValueError, RecursionError, RuntimeError) as error:
        cause = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise RunError(f"{path}: not a generator that mixgan wrote, or damaged ({cause})") from error
    with torch.random.fork_rng():
        networks = restore_networks(path, model, shape, {"generator": state})
    return TrainedGenerator(path, model, shape, Sampler(networks.generator.eval().requires_grad_(False)))


def restore_networks(
    path: Path, model: Model, shape: tuple[int, ...], states: Mapping[str, Mapping[str, Tensor]]
) -> Networks:
    """Build networks and load the weights of a file into them. If the file may come from anyone, call `check_shapes`.

    Args:
        path: the file, for error messages.
        model: the model group of its configuration.
        shape: the shape of one sample.
        states: the state dicts by network, named as in `Networks`; each tensor of any shape [...].

    Raises:
        RunError: the weights do not belong to this configuration.
    """
    with checkpoint_errors(path):
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


def check_shapes(path: Path, model: Model, shape: tuple[int, ...], states: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Check that weights belong to a configuration, without memory for them: a small file could ask for any amount.

    Components of other packages may not support this.

    Args:
        path: the file, for error messages.
        model: the model group of its configuration.
        shape: the shape of one sample.
        states: the state dicts by network, named as in `Networks`; each tensor of any shape [...].

    Raises:
        RunError: the weights do not belong to this configuration.
    """
    with checkpoint_errors(path):
        stored = sum(map(len, states.values()))
        # Heads share most layers, but each of the K is built with all of them: at most the square of what is stored.
        with torch.device("meta"), max_parameters(min(1000 + stored**2, MAX_TENSORS)):
            networks = build_networks(model, shape)
        for name, state in states.items():
            expected = {key: value.shape for key, value in getattr(networks, name).state_dict().items()}
            if expected != {key: value.shape for key, value in state.items()}:
                raise ValueError(f"the tensors of the {name} have other names or shapes")


@contextmanager
def max_parameters(most: int) -> Iterator[None]:
    """Inside the block, modules with more parameter tensors than this cannot be built.

    Raises:
        ValueError: there would be more.
    """
    count = 0

    def note(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 1
        if count > most:
            raise ValueError(f"the configuration has more than {most:,} tensors, many more than the file")

    hook = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()
