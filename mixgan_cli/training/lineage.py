"""Go on from another run: train it longer (`continue=RUN`), or start a new run from its weights (`start_from=RUN`)."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixgan_cli.config.components import TARGET, build, target_of, trust
from mixgan_cli.config.identity import affects_result
from mixgan_cli.config.keys import flatten_keys, prefixes
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Lineage, Run
from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.export.safetensors import check_shapes, checkpoint_errors, read_generator
from mixgan_cli.models.networks import Networks
from mixgan_cli.models.pretrained import generator_path
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.reading import MAX_BYTES, copy_regular
from mixgan_cli.tracking.jsonl import MAX_LOG_BYTES
from mixgan_cli.training.checkpoint import State, read_state

log = logging.getLogger("mixgan")

LENGTH = ("training.nimg", "training.epochs")
OF_THE_COMMAND = ("force", "paths", "logger", "sweep")
"""Settings that a continued run does not take from the run that it continues."""


def with_lineage(settings: Run, given: Iterable[str]) -> Run:
    """Return the settings of a run that goes on from another one; without `continue` and `start_from` the same ones.

    Args:
        settings: the configuration of the command.
        given: keys and groups on the command line, such as training.nimg or hardware.

    Raises:
        ConfigError: `continue` is combined with a setting that would change the run.
        RunError: there is no such run or file, or it is damaged.
    """
    if settings.continue_:
        return _longer(settings, RunFolder(Path(settings.continue_)), set(given))
    if settings.start_from:
        weights = _read_weights(settings.start_from, settings.trusted)
        lineage = Lineage(
            how="started", source=settings.start_from, nimg=weights.nimg, weights=_checksum(weights.networks["ema"])
        )
        return settings.model_copy(update={"lineage": lineage})
    return settings


def check_longer(settings: Run) -> None:
    """Check that a continued run is longer than the one that it continues.

    Raises:
        ConfigError: it is not.
    """
    lineage, total = settings.lineage, settings.training.total_nimg
    if lineage and lineage.how == "continued" and total <= (lineage.nimg or 0):
        raise ConfigError(
            f"training.nimg={total}: {lineage.source} has been trained on {lineage.nimg:,} images already"
        )


def go_on(state: State, lineage: Lineage, folder: RunFolder, trusted: Iterable[str] = ()) -> None:
    """Load the state or the weights from which a run goes on, into a state before the first iteration.

    A continued run gets the records, samples and best state of the run that it continues, too.

    Args:
        state: the state, which is changed.
        lineage: from where the run goes on.
        folder: the folder of the new run, which gets a checkpoint.
        trusted: packages other than mixgan whose classes a file may name.

    Raises:
        RunError: the file is missing, damaged, of other data, or its networks have other shapes.
    """
    if lineage.how == "started":
        _load_weights(state, lineage.source, trusted)
        log.info("%s: started from the weights of %s", folder.path, lineage.source)
        return
    before = RunFolder(Path(lineage.source))
    path = before.find_checkpoint("last")
    with checkpoint_errors(path):
        state.load(path, longer=True)
    state.progress.ended = False
    if distributed.is_main():
        sizes = {"metrics.jsonl": MAX_LOG_BYTES, "checkpoints/best.pt": 2 * path.stat().st_size}
        sizes |= {f"samples/{picture.name}": MAX_BYTES for picture in before.samples.glob("*.png")}
        for name, max_bytes in sizes.items():
            if (before.path / name).exists():
                copy_regular(before.path / name, folder.path / name, before.path, max_bytes)
        state.save(folder.checkpoint("last"))
    log.info("%s: continues %s at %s images", folder.path, before.path, f"{state.progress.nimg:,}")


def _longer(settings: Run, folder: RunFolder, given: set[str]) -> Run:
    """Return the settings of the run in the folder, with the new length and with what does not affect the result."""
    stored = folder.read_config()
    trust(stored, settings.trusted)
    if folder.in_use:
        raise RunError(f"continue={folder.path}: this run is still training")
    if given.isdisjoint(LENGTH):
        raise ConfigError(f"continue={folder.path}: give the new length of the run, training.nimg or training.epochs")
    command = settings.model_dump(mode="json")
    new = _changed(flatten_keys(command), flatten_keys(stored), given - {"continue", "trusted"}, folder)
    config = {**stored, **{key: command[key] for key in OF_THE_COMMAND}, "lineage": None}
    for key, value in new.items():
        _set(config, key.split("."), value)
    run: Run = parse(config, Run)
    last = folder.find_checkpoint("last")
    state = read_state(last)
    if not settings.trusted:  # before networks are built
        with checkpoint_errors(last):
            shape = build(run.data).shape
        check_shapes(last, run.model, shape, {name: state[name] for name in Networks._fields})
    nimg, weights = state["progress"]["nimg"], (stored.get("lineage") or {}).get("weights")
    for key in _depend_on_length(run):
        weights = _checksum(state["ema"])  # so that it is another run than one of this length from the start
        log.warning(
            "warning: %s depends on the length of the run, which was a shorter one for the first %s images. So the "
            "result differs from that of a run of this length from the start",
            key,
            f"{nimg:,}",
        )
    if state["progress"].get("ended"):
        weights = _checksum(state["ema"])
        log.warning(
            "warning: an alarm ended %s, and would end a run of the new length from the start, too. So the result "
            "differs from that of such a run",
            folder.path,
        )
    lineage = Lineage(how="continued", source=str(folder.path), nimg=nimg, weights=weights)
    return run.model_copy(update={"lineage": lineage})


def _changed(
    command: Mapping[str, Any], stored: Mapping[str, Any], given: set[str], folder: RunFolder
) -> dict[str, Any]:
    """Return the given settings that differ from the stored ones: length, and what does not affect the result.

    Raises:
        ConfigError: another setting is given.
    """
    different = {
        key: value
        for key, value in command.items()
        if stored.get(key) != value and not given.isdisjoint(prefixes(key)) and value != "auto"
    }
    stops = bool(stored.get("alarms.stop"))
    allowed = {key: value for key, value in different.items() if key in LENGTH or not affects_result(key, stops)}
    not_keys = given - {group for key in command for group in prefixes(key)}  # experiment, for example
    if refused := sorted(not_keys | (different.keys() - allowed.keys())):
        raise ConfigError(
            f"{refused[0]}: continue={folder.path} trains the run with its own settings, so this cannot be given. "
            f"start_from={folder.path} starts a new run from its weights, with any settings"
        )
    return allowed


def _set(config: dict[str, Any], steps: list[str], value: Any) -> None:
    """Set a value in a nested configuration."""
    for step in steps[:-1]:
        config[step] = dict(config.get(step) or {})
        config = config[step]
    config[steps[-1]] = value


def _depend_on_length(run: Run) -> list[str]:
    """Return the keys of the schedules whose factor depends on the length of the run."""

    def schedules(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, node in config.items():
            if isinstance(node, Mapping):
                if TARGET in node and issubclass(target_of(node), Schedule):
                    yield f"{prefix}{name}", node
                yield from schedules(node, f"{prefix}{name}.")

    config = run.model_dump(mode="json", include={"model", "objective", "training"})
    nimg = run.training.nimg or sys.maxsize  # with epochs, the data set is not known yet
    return [key for key, node in schedules(config) if build(node, nimg=nimg).depends_on_length]


class Weights(NamedTuple):
    """The weights of a checkpoint, or of a generator's file."""

    networks: Mapping[str, Mapping[str, Tensor]]
    """State dicts of the moving average (ema), the generator, and the discriminator if the file has it, in this order:
    a run without averaging has one generator for both, and gets the generator's weights."""
    nimg: int | None


def _read_weights(run_or_file: str, trusted: Iterable[str]) -> Weights:
    path = generator_path(run_or_file)
    if path.is_dir():
        path = RunFolder(path).find_checkpoint("last")
    if path.suffix == ".pt":
        state = read_state(path)
        return Weights({name: state[name] for name in ("ema", "generator", "discriminator")}, state["progress"]["nimg"])
    trained = read_generator(path, trusted)
    weights = trained.sampler.generator.state_dict()
    return Weights({"ema": weights, "generator": weights}, trained.nimg)


def _load_weights(state: State, run_or_file: str, trusted: Iterable[str]) -> None:
    """Load networks and moving average.

    Raises:
        RunError: they have other names or shapes.
    """
    own = state.named_networks
    for name, weights in _read_weights(run_or_file, trusted).networks.items():
        here = {key: tuple(value.shape) for key, value in own[name].state_dict().items()}
        there = {key: tuple(value.shape) for key, value in weights.items()}
        different = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        if different:
            key = different[0]
            raise RunError(
                f"start_from={run_or_file}: its {name} is another network: {key} is {there.get(key, 'absent')} there "
                f"and {here.get(key, 'absent')} here ({len(different)} such differences). Give the model and data "
                "that it was trained with"
            )
        own[name].load_state_dict(weights)


def _checksum(weights: Mapping[str, Tensor]) -> str:
    """Return a checksum of tensors of any shape [...] by name, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
