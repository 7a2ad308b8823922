"""Components: nodes of the configuration that name a class (`_target_`) and its arguments.

The class's signature is the component's schema, so a class and a YAML file add a component, and a wrong key or type is
still found before anything is built.

A class is named by the package that exports it: `mixgan_cli.models.TreeGate`, not by the file that defines it. So files
can move without changing a run's identity.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Annotated, Any, get_type_hints

from hydra.utils import get_class
from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter, ValidationError, ValidationInfo

from mixgan_cli.errors import ConfigError, nearest

TARGET = "_target_"
NAME = "name"
"""A plain key of a data set, by which folders, pages and published figures call it. It is not an argument."""
SCHEDULE = "schedule"
"""A plain key of what can be scheduled: a component whose factor scales its strength. It is not an argument."""
TRUSTED_PACKAGES = tuple(f"mixgan_cli.{name}" for name in ("models", "objectives", "data", "optim", "tracking"))
"""The packages that export mixgan's own components, in `__all__`."""
TYPE_CHECKS = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, coerce_numbers_to_str=True)
PLAIN = (TARGET, NAME, SCHEDULE)
"""Keys of a component that are not arguments of its class."""
VALUES_ONLY = object()
"""Context of a validation that imports no class."""
MAX_DEPTH = 32
"""Maximum nesting of a configuration read from a file; mixgan's own have five levels."""


def build(component: Mapping[str, Any], **given: Any) -> Any:
    """Instantiate the class that a component names.

    Args:
        component: `_target_` and the arguments from the configuration.
        given: arguments that only the program knows (sizes, K, …), passed where the signature has them.

    Raises:
        ConfigError: the configuration sets one of the given arguments, or an argument is missing.
    """
    target = _target(str(component[TARGET]))
    signature = inspect.signature(target)
    arguments = {name: value for name, value in component.items() if name not in PLAIN or name in signature.parameters}
    wanted = {name: value for name, value in given.items() if name in signature.parameters}
    for name in arguments.keys() & wanted.keys():
        raise ConfigError(f"{target.__name__}.{name}={arguments[name]!r}: the program sets this itself. Leave it out")
    try:
        signature.bind(**arguments, **wanted)
    except TypeError as error:
        raise ConfigError(f"{target.__name__}: {error}. Give it in the component's YAML file") from error
    return target(**arguments, **wanted)


def check(
    component: Mapping[str, Any], requires: str = "__init__", named: bool = False, scheduled: bool = False
) -> dict[str, Any]:
    """Return the component with its public name and its values converted to their declared types.

    Args:
        component: `_target_` and arguments.
        requires: a method or attribute that such a class must define.
        named: whether the component must have a `name`, or a class with a static method `own_name(arguments)` that
            returns one.
        scheduled: whether it may have a `schedule`.

    Raises:
        ConfigError: `_target_` is missing, unknown or of the wrong kind, or an argument is unknown or has the wrong
            type.
    """
    if TARGET not in component:
        raise ConfigError(f"{TARGET} is missing: which class is this?")
    target = _target(str(component[TARGET]))
    if not any(requires in vars(base) for base in target.__mro__):
        raise ConfigError(f"{TARGET}: {component[TARGET]} cannot be used here: it has no {requires}")
    accepted = inspect.signature(target).parameters
    hints = _hints(target)
    checked = {TARGET: public_name(target) or component[TARGET]}
    if named:
        checked[NAME] = component.get(NAME)
    for name, value in component.items():
        if name == TARGET or (named and name == NAME):
            continue
        if scheduled and name == SCHEDULE:
            try:
                checked[name] = None if value is None else check(as_component(value), "factor")
            except ConfigError as error:
                raise ConfigError(f"{SCHEDULE}.{error}") from error
            continue
        if name not in accepted:
            raise ConfigError(
                f"{name}: {target.__name__} takes no such key.{nearest(name, accepted)} It takes: "
                f"{', '.join(accepted) or 'no keys'}"
            )
        checked[name] = _in_type(name, value, hints.get(name, Any))
    if named:
        own_name = getattr(target, "own_name", lambda arguments: None)
        checked[NAME] = folder_name(own_name(checked) if checked[NAME] is None else checked[NAME])
    return checked


def as_component(value: Any) -> dict[str, Any]:
    """Return a value that is a mapping. Raises ConfigError if it is another value."""
    if not isinstance(value, dict):
        raise ConfigError(f"{TARGET} is missing: {value!r} names no class")
    return value


def class_name(target: Any) -> str:
    """Return the name of a class, given by its path, without its package."""
    return str(target).rpartition(".")[2]


def check_run(key: str, component: Mapping[str, Any], run: Any) -> None:
    """Let a component's class check that it can be used in a run: its `check_run(key, arguments, run)`, if it has one.

    Args:
        key: where the component stands in the configuration.
        component: `_target_` and arguments.
        run: the configuration of the run.

    Raises:
        ValueError: it cannot be used there.
    """
    target = target_of(component)
    rule = getattr(target, "check_run", None)
    if rule is None:
        return
    parameters = inspect.signature(target).parameters
    arguments = {name: each.default for name, each in parameters.items() if each.default is not each.empty}
    try:
        rule(key, arguments | {name: value for name, value in component.items() if name != TARGET}, run)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    except KeyError as error:
        raise ValueError(f"{key}.{error.args[0]}: missing. Give {key}.{error.args[0]}=…") from error


def folder_name(name: Any) -> str:
    """Return a name that can be part of a folder's name.

    Raises:
        ValueError: it is missing, or has other characters.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,63}", name):
        if name is None:
            raise ValueError("name: is missing. Give the data set the name by which folders and tables call it")
        raise ValueError(
            f"name={str(name)[:80]!r}: must be the start of a folder's name: up to 64 letters, digits, '_', '-' and "
            "'.', the first a letter, digit or '_'"
        )
    return name


def target_of(component: Mapping[str, Any]) -> type:
    """Return the class that a component names."""
    return _target(str(component[TARGET]))


def attribute(target: str, name: str) -> Any:
    """Return an attribute of the class that a component names; None if the class does not have it."""
    return getattr(_target(target), name, None)


def public_name(target: type) -> str | None:
    """Return the path by which a package of mixgan exports this class, or None if no package exports it."""
    for package in TRUSTED_PACKAGES:
        if f"{target.__module__}.".startswith(f"{package}."):
            exported = target.__name__ in import_module(package).__all__
            return f"{package}.{target.__name__}" if exported else None
    return None


def trust(config: Any, packages: Iterable[str] = ()) -> None:
    """Check a configuration read from a file: it may only name components of mixgan, or classes of `packages`.

    Otherwise the file could name any function to be called. Only names that mixgan exports are allowed, and classes
    that one of `packages` defines itself, not names that its modules import. This check imports no other package.

    Raises:
        ConfigError: the configuration names another class, or is nested too deeply.
    """
    packages = tuple(packages)
    stack = [(config, 0)]
    while stack:  # no recursion, as the file decides the depth
        node, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} levels deep: configurations of mixgan are not")
        if isinstance(node, Mapping):
            if TARGET in node and not _trusted(str(node[TARGET]), packages):
                raise ConfigError(_refusal(str(node[TARGET])[:200]))
            node = list(node.values())
        if isinstance(node, list):
            stack += [(value, depth + 1) for value in node]


def _trusted(target: str, packages: tuple[str, ...]) -> bool:
    """True if mixgan exports a class by this name, or one of the packages defines it; imports no other package."""
    module, _, name = target.rpartition(".")
    if module in TRUSTED_PACKAGES:
        return name in import_module(module).__all__
    if module == "torch.optim":
        found = getattr(import_module(module), name, None)
        return inspect.isclass(found) and issubclass(found, import_module(module).Optimizer)
    package = next((each for each in packages if f"{module}.".startswith(f"{each}.")), None)
    if package is None:
        return False
    try:
        found = getattr(import_module(module), name, None)
    except Exception:  # there is no such module, or it fails to import
        return False
    return inspect.isclass(found) and f"{found.__module__}.".startswith(f"{package}.")


def _refusal(target: str) -> str:
    old = " Runs and generators of mixgan before 0.2 cannot be loaded." if target.startswith("mixgan_cli.") else ""
    return (
        f"{TARGET}: {target} is not a component of mixgan, nor a class that a trusted package defines.{old} "
        "If you trust the file: trusted=[PACKAGE]"
    )


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
        return TypeAdapter(annotation, config=TYPE_CHECKS).validate_python(value)
    except ValidationError as error:
        reasons = "; ".join(problem["msg"] for problem in error.errors())
        raise ConfigError(f"{name}={value!r}: {reasons}") from error


def imports_classes(info: ValidationInfo) -> bool:
    """True if a validation may import the classes of components; that of `parse.check_values` may not."""
    return info.context is not VALUES_ONLY


def _requires(what: str, named: bool = False, scheduled: bool = False) -> BeforeValidator:
    """Return a validator for a node of the schema: it must name a class that defines this method or attribute."""

    def checked(value: Any, info: ValidationInfo) -> dict[str, Any]:
        try:
            component = as_component(value)
            return check(component, what, named, scheduled) if imports_classes(info) else component
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(checked)


def _optimizer_works(settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Build the optimiser of one number, so that torch checks the ranges of its arguments.

    Raises:
        ValueError: an argument is out of range, or the optimiser needs more than gradients.
    """
    if not imports_classes(info):
        return settings
    from torch import nn, optim, zeros  # here, since commands that check no optimiser do not need torch

    target, lr = target_of(settings), settings.get("lr")
    if issubclass(target, (optim.LBFGS, optim.SparseAdam)):
        raise ValueError(f"{TARGET}={settings[TARGET]}: needs closures or sparse gradients. Take another optimiser")
    if lr is not None and not 0 < float(lr) < float("inf"):
        raise ValueError(f"lr={lr}: must be greater than 0 and finite")
    try:
        build(settings, params=[nn.Parameter(zeros(1))])
    except (ConfigError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{TARGET}={settings[TARGET]}: {error}") from error
    return settings


Data = Annotated[dict[str, Any], _requires("load", named=True)]
Gate = Annotated[dict[str, Any], _requires("own_parameters", scheduled=True)]
Experts = Annotated[dict[str, Any], _requires("expand")]
Head = Annotated[dict[str, Any], _requires("classifies_experts")]
Backbone = Annotated[dict[str, Any], _requires("body")]
Adversarial = Annotated[dict[str, Any], _requires("generator")]
Term = Annotated[dict[str, Any], _requires("network", scheduled=True)]
Call = Annotated[dict[str, Any], _requires("__call__", scheduled=True)]
Optimizer = Annotated[dict[str, Any], _requires("step", scheduled=True), AfterValidator(_optimizer_works)]
Schedule = Annotated[dict[str, Any], _requires("factor")]
Logger = Annotated[dict[str, Any], _requires("record")]
