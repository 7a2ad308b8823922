"""Turn a command line with -m into a sweep: its jobs and its folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.main import get_args_parser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mixgan_cli.config.compose import quoted
from mixgan_cli.config.identity import affects_result
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import SweepCommand, conf_dir
from mixgan_cli.errors import ConfigError
from mixgan_cli.sweeps import gpus
from mixgan_cli.sweeps.sweep import Overrides, Sweep, overrides_hash

log = logging.getLogger("mixgan")


def plan(config_name: str, words: Sequence[str]) -> Sweep | None:
    """Return the sweep of a command line, or None if it asks for a single run.

    Raises:
        ConfigError, HydraException: the configuration cannot be composed, or there is nothing to sweep over.
    """
    arguments = get_args_parser().parse_args(list(words))
    multirun = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    if not multirun and not arguments.config_dir:  # mixgan's own files do not set hydra.mode
        return None
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parser.parse_overrides(arguments.overrides)
        first = [with_first_value(override) for override in overrides]
        if arguments.config_dir:
            first.append(f"hydra.searchpath=[{quoted(f'file://{Path(arguments.config_dir).absolute()}')}]")
        config = compose(arguments.config_name or config_name, first, return_hydra_config=True)
        if not multirun and config.hydra.mode != RunMode.MULTIRUN:
            return None
        settings = parse(OmegaConf.masked_copy(config, "sweep"), SweepCommand).sweep
        if not str(config.hydra.sweep.dir).strip():
            raise ConfigError("hydra.sweep.dir='': the path is empty. Give one, or leave the key out")
        task = [override for override in overrides if not override.is_hydra_override()]
        swept = {override.key_or_group for override in task if override.is_sweep_override()}
        stops = bool(OmegaConf.select(config, "alarms.stop")) or "alarms.stop" in swept
        if settings.name is None:
            config.sweep.name = _name([override for override in task if affects_result(override.key_or_group, stops)])
        launcher, sweeper = config.hydra.launcher, config.hydra.sweeper
        planned = None
        if _is(sweeper, BasicSweeper):
            given = parser.parse_overrides([f"{key}={value}" for key, value in (sweeper.params or {}).items()])
            planned = _combinations([*given, *task])
            if not planned:
                raise ConfigError("hydra.sweeper.params: nothing to sweep over")
            _report_k(config_name, planned)
        elif settings.optimize is None:
            raise ConfigError("sweep.optimize=null: a search needs a metric, for example sweep.optimize=fid")
        return Sweep(
            Path(config.hydra.sweep.dir),
            planned,
            settings.jobs,
            settings.fail_fast,
            settings.optimize,
            () if _is(launcher, BasicLauncher) else gpus.visible(),
            stops,
        )


def swept_words(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with -m as Hydra can carry them out.

    Hydra checks what is not swept before a job has its choices. So a key of a swept group, such as data.modes in
    `-m data=ring,grid data.modes=4`, becomes a sweep over one value, which only the jobs see.

    Raises:
        ConfigError: a word sweeps over no value.
        HydraException: a word cannot be read.
    """
    given = get_args_parser().parse_args(list(words)).overrides
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        parsed = dict(zip(given, parser.parse_overrides(given), strict=True))
    for override in parsed.values():
        with_first_value(override)
    if not {"search", "hydra/sweeper"} & {override.key_or_group for override in parsed.values()}:
        check_size(parsed.values())  # a search draws from the values
    groups = tuple(f"{each.key_or_group.replace('/', '.')}." for each in parsed.values() if each.is_sweep_override())

    def of_jobs(word: str) -> str:
        override = parsed.get(word)
        if override is None or override.is_sweep_override() or not override.key_or_group.startswith(groups or ("/",)):
            return word
        if override.is_delete() or override.is_add() or override.is_force_add():
            return word
        return f"{override.get_key_element()}=choice({override.get_value_element_as_str()})"

    return [of_jobs(word) for word in words]


def _report_k(config_name: str, planned: Sequence[Overrides]) -> None:
    """Log that the models of a sweep have different default numbers of experts, and how to fix one."""
    words = {word for job in planned for word in job}
    models = sorted(word for word in words if word.startswith("model="))
    if len(models) < 2 or any(word.startswith("model.k=") for word in words):
        return
    experts = {word.partition("=")[2]: compose(config_name, [word]).model.k for word in models}
    if len(set(experts.values())) > 1:
        listed = ", ".join(f"{model} {k}" for model, k in experts.items())
        log.info("the models have different numbers of experts by default: %s. model.k=8 gives all the same", listed)


def sweep_dir_override(sweep: Sweep) -> str:
    """Return the override that sets the sweep's folder in Hydra."""
    return f"hydra.sweep.dir={quoted(str(sweep.folder))}"


def with_first_value(override: Override) -> str:
    """Return an override with the first of its values if it is swept. Raises ConfigError if it has none."""
    if not override.is_sweep_override():
        return override.input_line or ""
    if override.is_range_sweep() and override.value().step == 0:  # type: ignore[union-attr]
        raise ConfigError(f"{override.input_line}: the step of a range cannot be 0")
    discrete = override.is_discrete_sweep()
    value = next(override.sweep_string_iterator(), None) if discrete else override.value().start  # type: ignore[union-attr]
    if value is None:
        raise ConfigError(f"{override.input_line}: nothing to sweep over, it has no values")
    return f"{override.get_key_element()}={value}"


MAX_JOBS = 10_000
"""Maximum number of jobs of a sweep."""


def check_size(overrides: Iterable[Override]) -> None:
    """Check the number of combinations of the values of overrides.

    Raises:
        ConfigError: there are more than MAX_JOBS.
    """
    jobs = 1
    for override in overrides:
        if override.is_discrete_sweep():
            jobs *= sum(1 for _ in islice(override.sweep_iterator(), MAX_JOBS + 1))
        if jobs > MAX_JOBS:
            raise ConfigError(f"{override.input_line}: a sweep has at most {MAX_JOBS:,} jobs. Give fewer values")


def _combinations(overrides: list[Override]) -> tuple[Overrides, ...]:
    for override in overrides:
        if override.is_interval_sweep():
            raise ConfigError(
                f"{override.input_line}: only a search can choose from an interval. Give values, such as "
                f"{override.key_or_group}=1,2,3, or use search=optuna"
            )
    check_size(overrides)
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
