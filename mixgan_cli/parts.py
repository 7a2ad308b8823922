"""A part: a node of the configuration that names a class (`_target_`) and its arguments.

The class's signature is the part's schema. So whoever writes a class and a YAML has added a part, and a wrong key or
type in it is still caught before anything is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints

from hydra.utils import get_object
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mixgan_cli.errors import ConfigError, nearest

TARGET = "_target_"


def build(part: Mapping[str, Any], **given: Any) -> Any:
    """Make the object a part names. `given` are the arguments the configuration does not know (sizes, K, …)."""
    target = _target(part[TARGET])
    accepted = inspect.signature(target).parameters
    wanted = {name: value for name, value in given.items() if name in accepted}
    return target(**{name: value for name, value in part.items() if name != TARGET}, **wanted)


def check(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part with its values in their declared types.

    Raises:
        ConfigError: no or unknown `_target_`, an argument its class does not take, or of the wrong type.
    """
    if TARGET not in part:
        raise ConfigError(f"{TARGET} is missing: which class is this?")
    target = _target(part[TARGET])
    accepted = inspect.signature(target).parameters
    hints = _hints(target)
    checked = {TARGET: part[TARGET]}
    for name, value in part.items():
        if name == TARGET:
            continue
        if name not in accepted:
            raise ConfigError(
                f"{name}: {target.__name__} takes no such key.{nearest(name, accepted)} It takes: "
                f"{', '.join(accepted) or 'none'}"
            )
        checked[name] = _in_type(name, value, hints.get(name, Any))
    return checked


@lru_cache
def _target(path: str) -> Callable[..., Any]:
    try:
        return get_object(path)
    except Exception as error:
        raise ConfigError(f"{TARGET}: {path} cannot be imported ({error})") from error


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(target.__init__ if inspect.isclass(target) else target)


def _in_type(name: str, value: Any, annotation: Any) -> Any:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(problem["msg"] for problem in error.errors())
        raise ConfigError(f"{name}={value!r}: {reasons}") from error
