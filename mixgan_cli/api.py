"""The Python interface: load a trained generator, and pass it to torch-fidelity."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mixgan_cli.models.export.safetensors import read_generator
from mixgan_cli.models.sampler import Sampler

if TYPE_CHECKING:
    from mixgan_cli.evaluation.torch_fidelity_input import TorchFidelityGenerator


def load(run_or_file: str | Path, trusted: Iterable[str] = ()) -> Sampler:
    """Load a trained generator on the CPU, ready to sample.

    Args:
        run_or_file: the folder of a finished run, or a generator.safetensors.
        trusted: packages other than mixgan whose classes the file may name.

    Raises:
        ConfigError: the file names a class of a package that is not trusted.
        RunError: there is no generator, or its file is damaged.
    """
    return read_generator(run_or_file, trusted).sampler


def for_torch_fidelity(sampler: Sampler) -> TorchFidelityGenerator:
    """Wrap a generator as an input of torch-fidelity, for example for `calculate_metrics(input1=…)`.

    Raises:
        ConfigError: the samples are points, or images without one or three channels.
    """
    from mixgan_cli.evaluation.torch_fidelity_input import TorchFidelityGenerator  # takes seconds to import

    return TorchFidelityGenerator(sampler)
