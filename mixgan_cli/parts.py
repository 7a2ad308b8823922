"""A part: a node of the configuration that names a class (`_target_`) and its arguments.

The class's signature is the part's schema. So whoever writes a class and a YAML has added a part, and a wrong key or
type in it is still caught before anything is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints

from hydra.utils import get_object
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mixgan_cli.errors import ConfigError, nearest

TARGET = "_target_"


def build(part: Mapping[str, Any], **given: Any) -> Any:
    """Make the object a part names. `given` are the arguments the configuration does not know (sizes, K, …)."""
    target = _target(part[TARGET])
    signature = inspect.signature(target)
    arguments = {name: value for name, value in part.items() if name != TARGET}
    wanted = {name: value for name, value in given.items() if name in signature.parameters}
    for name in arguments.keys() & wanted.keys():
        raise ConfigError(f"{target.__name__}.{name}={arguments[name]!r}: the program sets this itself. Leave it out")
    try:
        signature.bind(**arguments, **wanted)
    except TypeError as error:
        raise ConfigError(f"{target.__name__}: {error}. Give it in the part's YAML") from error
    return target(**arguments, **wanted)


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


def attribute(target: str, name: str) -> Any:
    """Return what the class a part names says of itself; None where it says nothing."""
    return getattr(_target(target), name, None)


def trust(config: Any, packages: Iterable[str] = ()) -> None:
    """Refuse a configuration from a file that names anything but mixgan's own parts, or those of `packages`.

    Whoever wrote the file could otherwise have any function called.

    Raises:
        ConfigError: naming the target, and how to allow it.
    """
    if isinstance(config, Mapping):
        target = config.get(TARGET)
        if target is not None and str(target).partition(".")[0] not in {"mixgan_cli", *packages}:
            raise ConfigError(f"{TARGET}: {target} is not a part of mixgan. If you trust the file: trusted=[PACKAGE]")
        for value in config.values():
            trust(value, packages)


@lru_cache
def _target(path: str) -> Callable[..., Any]:
    try:
        return get_object(path)
    except Exception as error:
        raise ConfigError(f"{TARGET}: {path} cannot be imported ({error})") from error


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)


def _in_type(name: str, value: Any, annotation: Any) -> Any:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(problem["msg"] for problem in error.errors())
        raise ConfigError(f"{name}={value!r}: {reasons}") from error
