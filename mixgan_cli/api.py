"""The Python interface: load a trained generator, and pass it to torch-fidelity."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mixgan_cli.models.sampler import Sampler
from mixgan_cli.training.restore import trained_generator

if TYPE_CHECKING:
    from mixgan_cli.evaluation.torch_fidelity_input import TorchFidelityGenerator


def load(run_or_file: str | Path, trusted: Iterable[str] = (), checkpoint: str | int | None = None) -> Sampler:
    """Load a trained generator on the CPU, ready to sample.

    Args:
        run_or_file: the folder of a run, which may still be training; a generator.safetensors; or the address of a
            generator that comes with mixgan, such as model://hmog-fashion.
        trusted: packages other than mixgan whose classes the file may name.
        checkpoint: of a run: "last", "best", or a number of images; None: the generator of a finished run, and the last
            state of one that is not finished.

    Raises:
        ConfigError: the file names a class of a package that is not trusted, or there is no generator of this address.
        RunError: there is no generator, or its file is damaged.
    """
    return trained_generator(run_or_file, trusted, checkpoint).sampler


def for_torch_fidelity(sampler: Sampler) -> TorchFidelityGenerator:
    """Wrap a generator as an input of torch-fidelity, for example for `calculate_metrics(input1=…)`.

    Raises:
        ConfigError: the samples are points, or images without one or three channels.
    """
    from mixgan_cli.evaluation.torch_fidelity_input import TorchFidelityGenerator  # takes seconds to import

    return TorchFidelityGenerator(sampler)
