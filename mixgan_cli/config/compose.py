"""Compose configurations with Hydra, and turn its errors into one message that names the nearest valid key."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.main import get_args_parser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixgan_cli.config.keys import flatten_keys, meant, prefixes
from mixgan_cli.config.renamed import renamed
from mixgan_cli.config.schema import conf_dir
from mixgan_cli.errors import error_summary, nearest

EXTRAS = ("joblib", "submitit", "optuna")
"""Choices that need an extra of the same name."""
NO_DEFAULT = "–"
"""Value of a key without a default."""
CompositionError = (HydraException, OmegaConfBaseException)


def is_composition_error(error: Exception) -> bool:
    """True if the error was raised while a configuration was composed, by Hydra, OmegaConf, or code they called."""
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, CompositionError) or any(f.f_code.co_name == "load_configuration" for f, _ in frames)


def explain(error: Exception, config_name: str, words: Sequence[str] = ()) -> str:
    """Return one readable message for an error that was raised while `config_name` was composed with these words."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        key, equals, value = str(error.override).partition("=")
        example = shlex.quote(f"{key}={quoted(value)}") if equals else "KEY=VALUE"
        return f"cannot read the override {error.override!r}: write key=value, and quote special characters: {example}"
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if several := re.search("Ambiguous value for argument '([^']+)'", text):
        key, _, values = several[1].partition("=")
        return f"{several[1]}: several values need a sweep; add -m, or write {key}=[{values}] for a list"
    unknown = re.search(r"Could not override '([^'@]+)", text)
    if isinstance(error, ConfigCompositionException) and unknown:
        key = unknown[1]
        cause = error_summary(error.__cause__ or error)
        if re.search("not in|No match", f"{text} {cause}"):
            if new := renamed(key):
                return f"{key}: renamed to {new}"
            if others := choices_with(key):
                return f"{key}: there is no such key with the choices made; there is with {', '.join(others)}"
            return f"{key}: there is no such key.{meant(key, known_keys(config_name, words))}"
        return f"{key}: {cause}"
    if isinstance(error, ConfigCompositionException) and error.__cause__ is not None:
        return f"{error_summary(error)}: {error_summary(error.__cause__)}"
    first, _, rest = (text or type(error).__name__).partition("\n")
    message = f"{first} {rest.splitlines()[0]}" if first.endswith(":") and rest else first
    asserted = isinstance(error, AssertionError)  # by Hydra, for a choice that is no text
    if "interpolation" in message or asserted:  # of a group's choice: Hydra may quote it, but does not name the group
        choices = [word for word in words if "${" in word and word.lstrip("+").partition("=")[0] in groups()]
        word = next((word for word in choices if asserted or word.partition("=")[2] in message), None)
        message = "there is no such choice" if asserted else message
        return f"{word}: {message}" if word else message
    return message


def given_keys() -> list[str]:
    """Return the keys and groups on the command line of this job, such as training.nimg or model.gate."""
    if not HydraConfig.initialized():
        return []
    words: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    overrides = OverridesParser.create().parse_overrides(words)
    return [override.key_or_group.replace("/", ".") for override in overrides]


def sweep_name() -> str | None:
    """Return the name of the sweep that this job belongs to; None in a single run."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name


def made_choices() -> dict[str, str]:
    """Return the choices of this job in the groups of model, objective and schedule: {"objective": "hinge", …}."""
    if not HydraConfig.initialized():
        return {}
    return {
        group: str(choice)
        for group, choice in HydraConfig.get().runtime.choices.items()
        if group.partition("/")[0] in ("model", "objective", "schedule") and "@" not in group and choice is not None
    }


def quoted(text: str) -> str:
    """Quote any text as a value of Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def groups() -> dict[str, list[str]]:
    """Return every group of conf/ with its choices: {"model": ["gan", …], "model/gate": […], …}."""
    found: dict[str, list[str]] = {}
    for path in sorted(conf_dir().glob("*/**/[!_]*.yaml")):  # _name.yaml is shared by several choices
        found.setdefault(path.parent.relative_to(conf_dir()).as_posix(), []).append(path.stem)
    found.pop("hydra", None)  # Hydra's own settings, the same for all commands
    return found


def choices_of(config_name: str, group: str) -> dict[str, dict[str, Any]]:
    """Return each choice of a group with its composed keys and values."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = {choice: compose(config_name, [f"{group}={choice}"])[group] for choice in groups()[group]}
    return {choice: OmegaConf.to_container(config) for choice, config in composed.items()}  # type: ignore[misc]


def defaults_of(data: str, model: str) -> DictConfig | None:
    """Return the configuration of a run in which only data set and model are chosen; None if they are not in conf/.

    A key that has to be given, such as the folder of the images, has the value NO_DEFAULT.
    """
    known = groups()
    if data not in known["data"] or model not in known["model"]:
        return None
    hydra = GlobalHydra.instance().hydra  # of the command that asks
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("config", [f"data={data}", f"model={model}"])
    finally:
        GlobalHydra.instance().hydra = hydra
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, NO_DEFAULT)
    return config


def known_keys(config_name: str, words: Sequence[str] = ()) -> list[str]:
    """Return every key and group that an override of `config_name` may name.

    The choices are those in the words of a command line if they can be composed as a single run, or else the defaults.
    """
    given, _ = get_args_parser().parse_known_args(list(words))
    chosen = [word for word in given.overrides if word.lstrip("+").partition("=")[0] in groups()]
    if given.config_dir:
        chosen.append(f"hydra.searchpath=[{quoted(f'file://{Path(given.config_dir).absolute()}')}]")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            config = compose(config_name, chosen)
        except CompositionError:
            config = compose(config_name)
    keys = flatten_keys(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]
    return [*dict.fromkeys(prefix for key in keys for prefix in prefixes(key)), *groups()]


def choices_with(key: str) -> list[str]:
    """Return the choices, written GROUP=CHOICE, whose YAML files define a key: data=ring for data.modes."""
    steps = key.split(".")
    for length in range(len(steps) - 1, 0, -1):
        group, rest = "/".join(steps[:length]), ".".join(steps[length:])
        found = [
            f"{group}={choice}"
            for choice in groups().get(group, [])
            if rest in flatten_keys(yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8")))
        ]
        if found:
            return found
    return []


def choice_with(group: str, name: str, target: str) -> str | None:
    """Return the choice of a group that names a class: the one called `name`, or else the first one; None if none."""
    targets = {}
    for choice in groups().get(group, []):
        content = yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8"))
        targets[choice] = content.get(group, content).get("_target_")  # some set keys of other groups, too
    if targets.get(name) == target:
        return name
    return next((choice for choice, found in targets.items() if found == target), None)


def _unknown_choice(error: MissingConfigException) -> str:
    missing = (error.missing_cfg_file or "").removesuffix(".yaml")
    group, _, choice = missing.rpartition("/")
    choices = [each for each in error.options or groups().get(group, []) if not each.startswith("_")]
    if new := renamed(f"{group}={choice}"):
        return f"{group}={choice}: renamed to {new}"
    extra = choice.partition("_")[0]
    if group.startswith("hydra/") and extra in EXTRAS:
        return f"{group}={choice} is not installed: pip install 'mixgan[{extra}]'"
    if not choices:
        return error_summary(error)
    return f"{group}={choice}: there is no such choice.{nearest(choice, choices)} Known: {', '.join(choices)}"
