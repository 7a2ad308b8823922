"""Check a composed configuration against a schema, and turn each of pydantic's errors into one line for the user."""

from __future__ import annotations

import re
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from mixgan_cli.config import components, redact
from mixgan_cli.config.keys import flatten_keys, meant, prefixes
from mixgan_cli.config.renamed import renamed
from mixgan_cli.config.schema import Strict
from mixgan_cli.errors import ConfigError, error_summary


def check_values(composed: DictConfig, schema: type[Strict]) -> None:
    """Check all that can be checked without importing the classes of components, and so without torch.

    Raises:
        ConfigError: see `parse`.
    """
    _validated(composed, schema, components.VALUES_ONLY)


def parse(composed: DictConfig | dict[str, Any], schema: type[Strict]) -> Any:
    """Return the configuration as a frozen object of the class `schema`.

    A configuration composed by Hydra is resolved. A plain dict, which comes from a file, is not: `${oc.env:HOME}` stays
    text.

    Raises:
        ConfigError: the configuration is not valid. The message has each wrong key, its value, and what is allowed.
    """
    return _validated(composed, schema, None)


def _validated(composed: DictConfig | dict[str, Any], schema: type[Strict], context: Any) -> Any:
    config: Any = composed
    if isinstance(composed, DictConfig):
        composed = OmegaConf.masked_copy(composed, [str(key) for key in composed if key not in schema.ignored])
        try:
            config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            if isinstance(error, MissingMandatoryValue):
                raise ConfigError(f"{error.full_key}: missing. Give {error.full_key}=…") from error
            reason = error_summary(error)
            raise ConfigError(f"{error.full_key}: {reason}" if error.full_key else reason) from error
        written: Any = OmegaConf.to_container(composed, resolve=False)
        redact.refuse_secret_values(f"{written} {config}")
        if "seeded" in schema.model_fields:
            config["seeded"] = [key for key, value in flatten_keys(written).items() if value == "${seed}"]
    try:
        return schema.model_validate(config, context=context)
    except ValidationError as error:
        problems = error.errors()
        inner = {problem["loc"][:-1] for problem in problems}  # a list of wrong values also counts as too short
        problems = [each for each in problems if each["type"] != "too_short" or each["loc"] not in inner]
        raise ConfigError("\n".join(_readable(problem, config, schema) for problem in problems)) from error
    except UnicodeEncodeError as error:  # pydantic cannot pass on the message of a check that shows bytes of no text
        wrong = [
            f"{key}={value!r}: its characters are not text"
            for key, value in flatten_keys(config).items()
            if isinstance(value, str) and value in error.object and re.search("[\ud800-\udfff]", value)
        ]
        raise ConfigError("\n".join(wrong) or str(error)) from error


def _readable(problem: Any, config: dict[str, Any], schema: type[Strict]) -> str:
    """Return one line for one of pydantic's errors: key=value, what is wrong, what is allowed."""
    location = [str(step) for step in problem["loc"] if str(step) in _keys(config) or isinstance(step, int)]
    key = ".".join(location)
    if new := renamed(key):
        return f"{key}: renamed to {new}"
    if problem["type"] == "extra_forbidden":
        siblings = config
        for step in location[:-1]:
            siblings = siblings[step]
        known = set(_fields(schema, location[:-1]))
        others = [each for path in flatten_keys(config) for each in prefixes(path) if key not in prefixes(each)]
        return f"{key}: there is no such key.{meant(key, [*known, *others])} Known here: {', '.join(sorted(known))}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{'.'.join(map(str, problem['loc']))}: missing"
    if problem["type"] == "value_error":
        return f"{key}.{message}" if key else message
    if problem["type"] == "too_short":
        message = f"Give at least {problem['ctx']['min_length']}"
    return f"{key}={problem['input']!r}: {message}"


def _keys(config: Any) -> set[str]:
    if not isinstance(config, dict):
        return set()
    return set(map(str, config)).union(*(_keys(value) for value in config.values()))


def _fields(schema: type[Strict], path: list[str]) -> list[str]:
    for step in path:
        kind = schema.model_fields[step].annotation
        schema = next(
            each for each in (kind, *get_args(kind)) if hasattr(each, "model_fields")
        )  # a group, or one or null
    return list(schema.model_fields)
