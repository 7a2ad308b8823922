"""A part: a node of the configuration that names a class (`_target_`) and its arguments.

The class's signature is the part's schema. So whoever writes a class and a YAML has added a part, and a wrong key or
type in it is still caught before anything is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, get_type_hints

from hydra.utils import get_class
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from mixgan_cli.errors import ConfigError, nearest

TARGET = "_target_"
ROOMS = ("mixgan_cli.models", "mixgan_cli.objectives", "mixgan_cli.data", "mixgan_cli.tracking")
"""Where mixgan's own parts are."""
IN_PARTS = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
DEEPEST = 32
"""Levels of a configuration from a file; mixgan's own have five."""


def build(part: Mapping[str, Any], **given: Any) -> Any:
    """Make the object a part names. `given` are the arguments the configuration does not know (sizes, K, …).

    Raises:
        ConfigError: the part sets one of these itself, or lacks an argument.
    """
    target = _target(str(part[TARGET]))
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


def check(part: Mapping[str, Any], offers: str = "__init__") -> dict[str, Any]:
    """Return the part with its values in their declared types. `offers` is what such a class has: a method, say.

    Raises:
        ConfigError: no or unknown `_target_`, one that is something else, an argument its class does not take, or of
            the wrong type.
    """
    if TARGET not in part:
        raise ConfigError(f"{TARGET} is missing: which class is this?")
    target = _target(str(part[TARGET]))
    if not any(offers in vars(base) for base in target.__mro__):
        raise ConfigError(f"{TARGET}: {part[TARGET]} is no such part: it has no {offers}")
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
    """Refuse a configuration from a file that names anything but a class of mixgan's parts, or of `packages`.

    Whoever wrote the file could otherwise have any function called. A class is named where it is defined: what a module
    only imports (`mixgan_cli.data.sources.os.system`) is not its own. Nothing else is imported to find that out.

    Raises:
        ConfigError: naming the target, and how to allow it; or the configuration is nested too deeply to be one.
    """
    trusted = (*ROOMS, *packages)
    left = [(config, 0)]
    while left:  # not by recursion, whose depth the file would decide
        node, depth = left.pop()
        if depth > DEEPEST:
            raise ConfigError(f"nested more than {DEEPEST} levels deep: no configuration of mixgan is")
        if isinstance(node, Mapping):
            if TARGET in node and not _defines(trusted, str(node[TARGET])):
                raise ConfigError(
                    f"{TARGET}: {str(node[TARGET])[:200]} is not a part of mixgan, nor a class that a trusted package "
                    "defines there. If you trust the file: trusted=[PACKAGE]"
                )
            node = list(node.values())
        if isinstance(node, list):
            left += [(value, depth + 1) for value in node]


def _defines(packages: Iterable[str], target: str) -> bool:
    """Whether one of the packages defines a class at this very path; no other package is imported."""
    module, _, name = target.rpartition(".")
    if not any(f"{module}.".startswith(f"{package}.") for package in packages):
        return False
    try:
        found = getattr(import_module(module), name, None)
    except Exception:  # there is no such module, or it fails: then it defines nothing
        return False
    return inspect.isclass(found) and (found.__module__, found.__qualname__) == (module, name)


@lru_cache
def _target(path: str) -> type:
    try:
        return get_class(path)
    except Exception as error:
        raise ConfigError(f"{TARGET}: {path} cannot be imported ({error})") from error


def _hints(target: type) -> dict[str, Any]:
    return get_type_hints(target.__init__, include_extras=True)  # type: ignore[misc]


def _in_type(name: str, value: Any, annotation: Any) -> Any:
    try:
        return TypeAdapter(annotation, config=IN_PARTS).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(problem["msg"] for problem in error.errors())
        raise ConfigError(f"{name}={value!r}: {reasons}") from error


def _offers(what: str) -> BeforeValidator:
    """Return what checks a node of the schema: it names a class that has this method, or says this of itself."""

    def checked(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"should be a group with a _target_, not {value!r}")
        try:
            return check(value, what)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(checked)


Data = Annotated[dict[str, Any], _offers("load")]
Gate = Annotated[dict[str, Any], _offers("combine")]
Experts = Annotated[dict[str, Any], _offers("mix")]
Head = Annotated[dict[str, Any], _offers("classifies_experts")]
Backbone = Annotated[dict[str, Any], _offers("body")]
Adversarial = Annotated[dict[str, Any], _offers("generator")]
Call = Annotated[dict[str, Any], _offers("__call__")]
Sink = Annotated[dict[str, Any], _offers("record")]
