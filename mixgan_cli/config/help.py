"""Help on a command's configuration, from conf/: its keys with their comments, its groups and their choices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

import yaml

from mixgan_cli.config.compose import choices_of, groups
from mixgan_cli.config.schema import conf_dir

WIDTH = 100
"""Maximum number of characters per line."""
UNLESS_NAMED = re.compile(r"\$\{oc\.select:[^,]+,(\w+|\$\{\w+\})\}")
"""A default choice that a data set may replace; they can be nested."""


def keys(config_name: str) -> list[str]:
    """Return the lines of a primary configuration that define keys, without its defaults list and Hydra's settings."""
    source = _read(conf_dir() / f"{config_name}.yaml")
    _, _, body = source.partition("\ndefaults:\n")
    _, _, body = body.partition("\n\n")  # a blank line ends the defaults list
    return body.partition("\nhydra:")[0].strip().splitlines()


def groups_of(config_name: str) -> dict[str, list[str]]:
    """Return the groups that a command takes, with their choices."""
    used = _defaults(config_name)
    return {group: choices for group, choices in sorted(groups().items()) if group.partition("/")[0] in used}


def table_of_groups(config_name: str) -> list[str]:
    """Return a line or more for each group of a command: its name, its default and its choices."""
    defaults = _defaults(config_name)
    rows = [
        (group, defaults.get(group, "by model"), ", ".join(choices))
        for group, choices in groups_of(config_name).items()
    ]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1)) if rows else (0, 0)
    lines: list[str] = []
    for group, default, choices in rows:
        lines += _wrapped(f"  {group:<{first}}  {default:<{second}}  ", choices)
    return lines


def choices(config_name: str, topic: str) -> list[str] | None:
    """Describe each choice of a group and of the groups below it, or of all groups if the topic is `all`.

    None if the command has no such group.
    """
    wanted = [group for group in groups_of(config_name) if topic == "all" or f"{group}/".startswith(f"{topic}/")]
    lines: list[str] = []
    for group in wanted:
        lines += ["", f"{group}="]
        names = groups()[group]
        width = max(map(len, names))
        for name in names:
            lines += _wrapped(f"  {name:<{width}}  ", _about(conf_dir() / group / f"{name}.yaml"))
    return lines[1:] or None


def protocols() -> str:
    """Return the named protocols: `quick` with all its keys, the others with the keys in which they differ from it."""
    lines = ["Protocols (evaluation=NAME). Each key can be overridden and is stored with the results:"]
    composed = choices_of("evaluate", "evaluation")
    for name in sorted(composed, key=lambda name: name != "quick"):
        about, _, source = _read(conf_dir() / "evaluation" / f"{name}.yaml").partition("\n")
        is_quick = name == "quick"
        lines += ["", f"{name}: {about.removeprefix('#').strip()}{'' if is_quick else '; like quick, except'}"]
        quick = composed["quick"]
        other = [f"{key}: {json.dumps(value)}" for key, value in composed[name].items() if value != quick[key]]
        lines += [f"  {line}" for line in (source.splitlines() if is_quick else other)]
    return "\n".join(lines)


def unless_named(choice: str) -> str:
    """Return the choice in a defaults list, without the names by which data sets may replace it."""
    while (shorter := UNLESS_NAMED.sub(r"\1", choice)) != choice:
        choice = shorter
    return choice


def _defaults(config_name: str) -> dict[str, str]:
    """The choice of each group in a primary configuration's defaults list, as shown to the user."""
    entries = yaml.safe_load(_read(conf_dir() / f"{config_name}.yaml"))["defaults"]
    found = {
        group.removeprefix("optional "): choice
        for entry in entries
        if isinstance(entry, dict)
        for group, choice in entry.items()
    }
    found = {group: "null" if choice is None else unless_named(choice) for group, choice in found.items()}
    named = {"${model}": "by model", "${data}-${model}": "by data"}
    return {group: named.get(choice, choice) for group, choice in found.items()}


def _about(path: Path) -> str:
    """The first comment of a YAML file."""
    lines = (line[1:].strip() for line in _read(path).splitlines() if line[:1] == "#")
    return next(line for line in lines if not line.startswith("@package"))


def _wrapped(head: str, text: str) -> Iterator[str]:
    """The head and the text, in lines of at most WIDTH characters; the text keeps its column."""
    for line in wrap(text, WIDTH - len(head), break_on_hyphens=False):
        yield head + line
        head = " " * len(head)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
