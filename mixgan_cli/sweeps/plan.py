"""What a command line with -m asks for: which jobs, and the folder of the sweep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.main import get_args_parser
from omegaconf import DictConfig, OmegaConf

from mixgan_cli.config.schema import Sweeping, conf_dir, parse
from mixgan_cli.errors import ConfigError
from mixgan_cli.runs import tells
from mixgan_cli.sweeps import gpus
from mixgan_cli.sweeps.sweep import Overrides, Sweep, hash_of


def plan(config_name: str, words: Sequence[str]) -> Sweep | None:
    """Return the sweep that these words of the command line ask for, or None where they ask for something else.

    Raises:
        ConfigError, HydraException: it cannot be composed.
    """
    arguments = get_args_parser().parse_args(list(words))
    if not (arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides):
        return None
    if arguments.cfg or arguments.info:
        raise ConfigError("--cfg and --info print one run, and -m is for many: leave one of them out")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(arguments.overrides)
        first = [first_of(override) for override in overrides]
        if arguments.config_dir:
            first.append(f"hydra.searchpath=[{quoted(f'file://{Path(arguments.config_dir).absolute()}')}]")
        config = compose(arguments.config_name or config_name, first, return_hydra_config=True)
        settings = parse(OmegaConf.masked_copy(config, "sweep"), Sweeping).sweep
        task = [override for override in overrides if not override.is_hydra_override()]
        if settings.name is None:
            config.sweep.name = _name([override for override in task if tells(override.key_or_group)])
        launcher, sweeper = config.hydra.launcher, config.hydra.sweeper
        planned = None
        if _is(sweeper, BasicSweeper):
            given = parser.parse_overrides([f"{key}={value}" for key, value in (sweeper.params or {}).items()])
            planned = _combinations([*given, *task])
        elif settings.optimize is None:
            raise ConfigError("sweep.optimize=null: which metric shall the search go by? Say sweep.optimize=fid")
        return Sweep(
            Path(config.hydra.sweep.dir),
            planned,
            settings.jobs,
            settings.fail_fast,
            settings.optimize,
            () if _is(launcher, BasicLauncher) else gpus.visible(),
        )


def as_word(sweep: Sweep) -> str:
    """Return the override that tells Hydra the sweep's folder."""
    return f"hydra.sweep.dir={quoted(str(sweep.folder))}"


def first_of(override: Override) -> str:
    """Return a word of the command line with the first of the values it is swept over."""
    if not override.is_sweep_override():
        return override.input_line or ""
    discrete = override.is_discrete_sweep()
    value = next(override.sweep_string_iterator()) if discrete else override.value().start  # type: ignore[union-attr]
    return f"{override.get_key_element()}={value}"


def _combinations(overrides: list[Override]) -> tuple[Overrides, ...]:
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(
                f"{override.input_line}: an interval is for a search to choose from. Give values, such as "
                f"{override.key_or_group}=1,2,3, or take search=optuna"
            )
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    return tuple(map(tuple, combinations))


def _is(node: DictConfig, plugin: type) -> bool:
    return node._target_.rpartition(".")[2] == plugin.__name__


def _name(overrides: Sequence[Override]) -> str:
    """What is chosen and what is swept, and a hash: mggan-beta-k-seed-1a2b3c4d."""
    chosen, swept = [], []
    for override in overrides:
        if override.is_sweep_override():
            swept.append(re.split(r"[./]", override.key_or_group)[-1])
        elif override.key_or_group in ("experiment", "data", "model", "objective"):
            chosen.append(str(override.value()))
    readable = re.sub(r"[^\w.-]+", "_", "-".join([*chosen, *swept]), flags=re.ASCII)[:60]
    return f"{readable}-{hash_of(override.input_line or '' for override in overrides)}".lstrip("-.")


def quoted(text: str) -> str:
    """Return a text as a word of Hydra's grammar, whatever is in it."""
    return QuotedString(text, Quote.single).with_quotes()
