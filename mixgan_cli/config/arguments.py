"""The words of a command line: flags in any order, positional arguments, and paths that Hydra's grammar cannot read."""

from __future__ import annotations

import argparse
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Sweep
from hydra.errors import HydraException
from hydra.main import get_args_parser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixgan_cli.config.compose import groups, known_keys, quoted
from mixgan_cli.config.keys import meant
from mixgan_cli.config.values import expand_home
from mixgan_cli.errors import ConfigError, UserError

FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp"),
    "--experimental-rerun",
)
INFO_FLAGS, INFO_TOPICS = ("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""The flag whose value may be left out, and its values."""
PATH_KEYS = (
    "root",
    "images",
    "reference",
    "run",
    "outputs",
    "to",
    "compare",
    "weights",
    "checkpoint",
    "paths",
    "continue",
    "start_from",
    "folder",
    "dir",
)
"""Last names of keys that hold a path."""
MAX_KEY = 255
"""Longest key of an override [characters]. Hydra looks for a file of this name, and takes minutes for 100,000."""
LONG_NUMBER = re.compile(r"(?:\d_?){4301}")
"""A number with more digits than Python reads."""


@contextmanager
def naming_keys(config: Mapping[str, Any]) -> Iterator[None]:
    """Put the key before an error's message that begins with its path: `x: …` becomes `run=x: …`."""
    try:
        yield
    except UserError as error:
        for key in PATH_KEYS:
            values = config.get(key)
            for value in values if isinstance(values, Sequence) and not isinstance(values, str) else [values]:
                if str(error).startswith((f"{value}: ", f"{Path(expand_home(str(value)))}: ")):
                    error.args = (f"{key}={error}", *error.args[1:])
                    raise
        raise


def flags_first(words: Sequence[str]) -> list[str]:
    """Return the words with the flags before the overrides: Hydra's parser takes overrides in one place only."""
    flags, overrides, rest = [], [], deque(words)
    while rest:
        word = rest.popleft()
        if not word.startswith("-"):
            overrides.append(word)
        elif word in INFO_FLAGS:
            flags.append(f"--info={rest.popleft() if rest and rest[0] in INFO_TOPICS else 'all'}")
        else:
            flags.append(word)
            if word in FLAGS_WITH_VALUE and rest:
                flags.append(rest.popleft())
    return [*flags, *overrides]


def parse_flags(words: Sequence[str], config_name: str) -> argparse.Namespace:
    """Return what Hydra reads from words that `flags_first` returned.

    Raises:
        ConfigError: a flag does not exist, has no valid value, or excludes another one.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    arguments, unknown = parser.parse_known_args(list(words))
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
        raise ConfigError(
            f"unrecognized arguments: {' '.join(unknown)}. Keys have no dashes: write KEY=VALUE."
            f"{meant(name, known_keys(config_name)) if name else ''} --hydra-help lists all flags"
        )
    known = groups()
    for word in arguments.overrides:
        _check_override(word, known)
        if word.startswith(("hydra.run.dir=", "hydra.output_subdir=")):
            raise ConfigError(
                f"{word}: mixgan keeps its own records. paths.run=FOLDER names a run's folder, paths.outputs=FOLDER "
                "the folder of all runs"
            )
    if arguments.config_dir is not None and not arguments.config_dir.strip():
        raise ConfigError("--config-dir: the path is empty")
    if arguments.config_dir and not Path(arguments.config_dir).is_dir():
        raise ConfigError(f"--config-dir {arguments.config_dir}: there is no such folder")
    given = {
        "--run": arguments.run,
        "-m": arguments.multirun,
        "--cfg": arguments.cfg,
        "--info": arguments.info,
        "--shell-completion": arguments.shell_completion,
    }
    chosen = [flag for flag, value in given.items() if value]
    if len(chosen) > 1:
        raise ConfigError(
            f"{' and '.join(chosen)}: --cfg and --info print a single run, -m starts several; use only one of them"
        )
    if arguments.resolve and not arguments.cfg:
        raise ConfigError("--resolve: resolves what --cfg prints. Add --cfg job")
    return arguments


def positional_overrides(words: Sequence[str], key: str) -> list[str]:
    """Turn positional arguments into an override of `key`: paths=[A,B], or run=A for any other key.

    All words are returned unchanged if the key is given, too, or if there are several positional arguments for a key
    other than `paths`. Hydra then rejects them.
    """
    positional, others = [], []
    for before, word in zip(["", *words], words, strict=False):
        is_path = "=" not in word or os.path.exists(word)  # noqa: PTH110 (Path.exists raises if a word is too long)
        if word.startswith("-") or before in FLAGS_WITH_VALUE or not is_path:
            others.append(word)
        else:
            positional.append(word)
    if any(word.startswith(f"{key}=") for word in others) or (key != "paths" and len(positional) > 1):
        return list(words)
    values = f"[{','.join(map(_literal, positional))}]" if key == "paths" else "".join(map(_literal, positional))
    return [*others, f"{key}={values}"] if positional else others


def quote_path(word: str, multirun: bool) -> str:
    """Quote the value of an override if it is a path that Hydra would not read, or would read as something else.

    A path such as `archive (1)`, `a=b` or `2024` is quoted, and ~ becomes the home folder. `a,b`, `'a'` and `${a}` mean
    something in Hydra's grammar; they are quoted if there is such a file, or a folder of this name for a new one.
    """
    key, _, value = word.partition("=")
    is_path_key = re.split(r"[./]", key)[-1] in PATH_KEYS and key != "weights"  # of fetch, true or false
    if is_path_key and value.startswith("~"):
        return f"{key}={quoted(expand_home(value))}"
    exists = bool(value) and _exists(value)
    if not exists and (not is_path_key or "${" in value):
        return word
    literal, override = f"{key}={_literal(value)}", _parsed(word)
    read: Any = override.value() if override else None
    if override and override.is_sweep_override():
        return literal if not multirun and (exists or key == "to") else word
    if exists:
        return literal if not override or (is_path_key and (read != value or "${" in value)) else word
    if key == "paths" and value.startswith("[") and value.endswith("]"):
        as_meant = override and all(isinstance(path, str) for path in read)
        return word if as_meant else f"paths=[{','.join(map(_literal, value[1:-1].split(',')))}]"
    if not override and multirun:
        return f"{key}={','.join(map(_literal, value.split(',')))}"
    as_meant = override and (read is None or isinstance(read, str) or (key == "paths" and isinstance(read, dict)))
    return word if as_meant else literal


def _parsed(word: str) -> Override | None:
    """Return an override as Hydra reads it, or None if Hydra cannot read it."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _exists(path: str) -> bool:
    """Return whether there is such a file or folder, or the folder of a new one whose own name is a plain one."""
    folder, name = os.path.split(path)
    new = folder if not set(name) & set(",$\\") else ""
    return os.path.exists(path) or os.path.exists(new)  # noqa: PTH110 (Path.exists raises if a word is too long)


def _literal(path: str) -> str:
    """Quote a path for Hydra's grammar. If it exists, `${…}` in it is no interpolation."""
    return quoted(path.replace("${", r"\${") if _exists(path) else path)


def _check_override(word: str, groups_of_all: Mapping[str, Sequence[str]]) -> None:
    """Check what Hydra's own messages about an override do not name.

    Raises:
        ConfigError: its key is too long, or it gives a group a value that is not the name of a choice.
    """
    key = word.partition("=")[0]
    if len(key) > MAX_KEY:
        raise ConfigError(f"{key[:MAX_KEY]}…: there is no such key. It has {len(key):,} characters")
    if "\0" in word:
        raise ConfigError(f"{word!r}: no value can have a null character")
    if LONG_NUMBER.search(word):
        raise ConfigError(f"{key}: a number of more than 4,300 digits")
    choices = groups_of_all.get(key.lstrip("+").partition("@")[0])
    with suppress(HydraException):  # it is read again after paths are quoted
        override = OverridesParser.create().parse_override(word) if choices else None
        if override and not _is_choice(override.value()):
            raise ConfigError(f"{word}: there is no such choice. Known: {', '.join(choices or ())}")


def _is_choice(value: Any) -> bool:
    """Return whether Hydra can look for the choices that a value of a group names: a text, or a list of texts."""
    if isinstance(value, list):
        return all(isinstance(each, str) and "${" not in each for each in value)
    if isinstance(value, str):
        try:
            OmegaConf.create({"choice": str(value)})  # an interpolation such as ${model}
        except OmegaConfBaseException:
            return False
    return isinstance(value, (str, Sweep, Glob))


def _refuse(message: str) -> NoReturn:
    raise ConfigError(message)
