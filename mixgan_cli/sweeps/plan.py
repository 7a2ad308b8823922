"""Turn a command line with -m into a sweep: its jobs and its folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.main import get_args_parser
from omegaconf import DictConfig, OmegaConf

from mixgan_cli.config.compose import quoted
from mixgan_cli.config.schema import SweepCommand, conf_dir, parse
from mixgan_cli.errors import ConfigError
from mixgan_cli.runs import affects_result
from mixgan_cli.sweeps import gpus
from mixgan_cli.sweeps.sweep import Overrides, Sweep, overrides_hash


def plan(config_name: str, words: Sequence[str]) -> Sweep | None:
    """Return the sweep of a command line, or None if it asks for a single run.

    Raises:
        ConfigError, HydraException: the configuration cannot be composed.
    """
    arguments = get_args_parser().parse_args(list(words))
    if not (arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides):
        return None
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(arguments.overrides)
        first = [with_first_value(override) for override in overrides]
        if arguments.config_dir:
            first.append(f"hydra.searchpath=[{quoted(f'file://{Path(arguments.config_dir).absolute()}')}]")
        config = compose(arguments.config_name or config_name, first, return_hydra_config=True)
        settings = parse(OmegaConf.masked_copy(config, "sweep"), SweepCommand).sweep
        task = [override for override in overrides if not override.is_hydra_override()]
        if settings.name is None:
            config.sweep.name = _name([override for override in task if affects_result(override.key_or_group)])
        launcher, sweeper = config.hydra.launcher, config.hydra.sweeper
        planned = None
        if _is(sweeper, BasicSweeper):
            given = parser.parse_overrides([f"{key}={value}" for key, value in (sweeper.params or {}).items()])
            planned = _combinations([*given, *task])
        elif settings.optimize is None:
            raise ConfigError("sweep.optimize=null: a search needs a metric, for example sweep.optimize=fid")
        return Sweep(
            Path(config.hydra.sweep.dir),
            planned,
            settings.jobs,
            settings.fail_fast,
            settings.optimize,
            () if _is(launcher, BasicLauncher) else gpus.visible(),
        )


def sweep_dir_override(sweep: Sweep) -> str:
    """Return the override that sets the sweep's folder in Hydra."""
    return f"hydra.sweep.dir={quoted(str(sweep.folder))}"


def with_first_value(override: Override) -> str:
    """Return an override with the first of its values if it is swept."""
    if not override.is_sweep_override():
        return override.input_line or ""
    discrete = override.is_discrete_sweep()
    value = next(override.sweep_string_iterator()) if discrete else override.value().start  # type: ignore[union-attr]
    return f"{override.get_key_element()}={value}"


def _combinations(overrides: list[Override]) -> tuple[Overrides, ...]:
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(
                f"{override.input_line}: only a search can choose from an interval. Give values, such as "
                f"{override.key_or_group}=1,2,3, or use search=optuna"
            )
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    return tuple(map(tuple, combinations))


def _is(node: DictConfig, plugin: type) -> bool:
    return node._target_.rpartition(".")[2] == plugin.__name__


def _name(overrides: Sequence[Override]) -> str:
    """Return a name made of choices, swept keys and a hash: mggan-beta-k-seed-1a2b3c4d."""
    chosen, swept = [], []
    for override in overrides:
        if override.is_sweep_override():
            swept.append(re.split(r"[./]", override.key_or_group)[-1])
        elif override.key_or_group in ("experiment", "data", "model", "objective"):
            chosen.append(str(override.value()))
    readable = re.sub(r"[^\w.-]+", "_", "-".join([*chosen, *swept]), flags=re.ASCII)[:60]
    return f"{readable}-{overrides_hash(override.input_line or '' for override in overrides)}".lstrip("-.")
