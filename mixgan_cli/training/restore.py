"""Restore trained networks: of a run that is finished, interrupted or still training, or of a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mixgan_cli.config.components import build, trust
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from mixgan_cli.data.dataset import Source
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.export.safetensors import (
    TrainedGenerator,
    check_shapes,
    checkpoint_errors,
    read_generator,
    restore_networks,
)
from mixgan_cli.models.networks import Networks
from mixgan_cli.models.pretrained import generator_path, pretrained_name
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runs import RunFolder
from mixgan_cli.training.checkpoint import read_state

log = logging.getLogger("mixgan")


class Restored(NamedTuple):
    """The networks of a checkpoint, on the CPU."""

    run: Run
    """The configuration of the run."""
    nimg: int
    """Images shown so far."""
    source: Source
    """The data set of the run, which is not loaded."""
    networks: Networks


def restore(
    path: Path,
    trusted: Iterable[str] = (),
    ema: bool | None = None,
    config: Mapping[str, Any] | None = None,
) -> Restored:
    """Restore the networks of a checkpoint.

    Args:
        path: the file, such as checkpoints/last.pt of a run's folder.
        trusted: packages other than mixgan whose classes the file may name.
        ema: if true, the generator has the moving average of the weights; None: as the run evaluates it.
        config: the configuration in the run's folder; None: that of the file.

    Raises:
        ConfigError: the file names a class of a package that is not trusted.
        RunError: the file does not exist, is damaged, or its parts do not belong together.
    """
    trusted, state = tuple(trusted), read_state(path)
    stored = dict(state["config"] if config is None else config)
    trust(stored, trusted)
    run: Run = parse(stored, Run)
    with checkpoint_errors(path):
        source: Source = build(run.data)
        shape, nimg = source.shape, int(state["progress"]["nimg"])
        averaged = run.evaluation.ema if ema is None else ema
        weights = {"generator": state["ema" if averaged else "generator"], "discriminator": state["discriminator"]}
    if not trusted:
        check_shapes(path, run.model, shape, weights)
    networks = restore_networks(path, run.model, shape, weights)
    for network in networks:
        network.requires_grad_(False)
    return Restored(run, nimg, source, networks)


def trained_generator(
    run_or_file: str | Path, trusted: Iterable[str] = (), checkpoint: str | int | None = None
) -> TrainedGenerator:
    """Return a trained generator and what its file says of it.

    Args:
        run_or_file: the folder of a run, which may still be training; a file: generator.safetensors or a checkpoint; or
            the address of a generator that comes with mixgan, such as model://hmog-fashion.
        trusted: packages other than mixgan whose classes the file may name.
        checkpoint: of a run: last, best, or a number of images; None: the generator of a finished run, and the last
            state of one that is not finished.

    Raises:
        ConfigError: a file is given together with a checkpoint, or names a class of a package that is not trusted; or
            no generator has this address.
        RunError: there is no generator, or its file is damaged.
    """
    path, config = generator_path(run_or_file), None
    if path.is_dir():
        folder = RunFolder(path)
        if checkpoint is None and folder.generator.is_file():
            return read_generator(folder.generator, trusted)
        config = folder.read_config()
        path = folder.find_checkpoint("last" if checkpoint is None else str(checkpoint))
        if checkpoint is None:
            log.info("%s: not finished; this is its last state", folder.path)
    elif checkpoint is not None:
        raise ConfigError(f"checkpoint={checkpoint}: {run_or_file} is not the folder of a run. Leave the key out")
    if path.suffix != ".pt":
        return read_generator(path, trusted)
    restored = restore(path, trusted, config=config)
    sampler = Sampler(restored.networks.generator.eval())
    return TrainedGenerator(path, restored.run.model, restored.source.shape, sampler, restored.nimg)


def default_output(run_or_file: str, folder: str, name: str) -> Path:
    """Return where a command writes the file or folder `name` that it makes from a generator, if the user does not say.

    Args:
        run_or_file: as for `trained_generator`.
        folder: the subfolder of a run to which the command writes; empty: the run's folder itself. What is made from
            a file is written next to it, and what is made from a generator of mixgan's own to the current folder.
        name: name of the file or folder to write.
    """
    if (own := pretrained_name(run_or_file)) is not None:
        return Path(f"{own}-{name}")
    source = Path(run_or_file)
    return source / folder / name if source.is_dir() else source.with_name(name)
