"""The keys of conf/: where each is defined, and its comment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import yaml

from mixgan_cli.config.components import TARGET
from mixgan_cli.config.compose import groups
from mixgan_cli.config.help import unless_named
from mixgan_cli.config.schema import conf_dir

PRESETS = "experiment"
"""The group that defines no keys and only sets them."""


class Choice(NamedTuple):
    """An entry of a defaults list that selects a choice of another group, and its comment."""

    group: str
    choice: str
    comment: str


class Key(NamedTuple):
    """A key in a YAML file: its path in the composed configuration, its value as written, and its comment."""

    path: str
    value: str
    comment: str
    target: str | None
    """The class, if the key is a component."""
    is_section: bool
    """True if its own keys follow below it, each with a comment."""

    @property
    def is_hydras(self) -> bool:
        """True if Hydra defines this section."""
        return self.is_section and self.path.partition(".")[0] == "hydra"


class File:
    """A YAML file of conf/: a choice of a group, or the primary configuration of a command (group "")."""

    def __init__(self, path: Path) -> None:
        self.group, self.name = path.parent.relative_to(conf_dir()).as_posix().removeprefix("."), path.stem
        self.path = self.group.replace("/", ".")
        """Path of the group in the composed configuration."""
        self.source = path.read_text(encoding="utf-8")
        comments = [line[1:].strip() for line in self.source.splitlines() if line[:1] == "#"]
        self.about = [line for line in comments if not line.startswith("@package")]
        self.package = "" if "@package _global_" in comments else self.path
        """Path of the file's content in the composed configuration."""
        root = yaml.compose(self.source)
        defaults = _inside(root).get("defaults", yaml.SequenceNode("", [])).value
        self.bases = [node.value for node in defaults if isinstance(node.value, str) and node.value != "_self_"]
        """The choices of the same group that it extends."""
        self.chosen = [choice for node in defaults if not isinstance(node.value, str) for choice in self._choices(node)]
        """Its choices of other groups."""
        own = root if self.package else _inside(root).get(self.group)
        self.target = _target(own)
        """Its class, if it is a component."""
        found = [key for key in self._keys(root, self.package) if not (key.is_section and key.path == self.path)]
        self.keys = [key for key in found if self.group or key.path.partition(".")[0] != "hydra"]
        """Its keys in order, without Hydra's settings in a primary configuration."""

    def _choices(self, default: yaml.MappingNode) -> Iterator[Choice]:
        for name, value in default.value:
            words, within = name.value.removeprefix("override "), "" if " " in name.value else self.group
            if words.partition("/")[0] != "hydra" and not words.startswith("optional "):
                group = f"{within}/{words}".strip("/").replace("//", "/")
                choice = unless_named(value.value)
                yield Choice(group, choice, self._beside(value.end_mark))

    def _keys(self, node: yaml.MappingNode | None, package: str) -> Iterator[Key]:
        """Yield the keys of mappings in block style; a mapping in braces is a value."""
        for name, value in node.value if node else ():
            if name.value in (TARGET, "defaults"):
                continue
            path = f"{package}.{name.value}".lstrip(".")
            is_section = isinstance(value, yaml.MappingNode) and not value.flow_style
            if is_section:
                target = _target(value)
                written = f"{{{TARGET}: {target}, …}}" if target else ""
                yield Key(path, written, self._beside(name.end_mark), target, True)
                yield from self._keys(value, path)
            else:
                written = self.source[value.start_mark.index : value.end_mark.index]
                yield Key(path, written, self._beside(value.end_mark), None, False)

    def _beside(self, end: yaml.Mark) -> str:
        """The comment at the end of a line, with the lines below it whose comment starts in the same column."""
        rest, *below = self.source[end.index :].split("\n")
        code, _, comment = rest.partition("#")
        margin = " " * (end.column + len(code)) + "#"
        more = [line.removeprefix(margin) for line in takewhile(lambda line: line.startswith(margin), below)]
        return " ".join(part.strip() for part in (comment, *more))


class Conf:
    """All of conf/."""

    def __init__(self) -> None:
        self.files = {(file.group, file.name): file for file in map(File, sorted(conf_dir().rglob("*.yaml")))}
        self.groups = groups()
        self._homes: dict[str, set[str]] = {group.replace("/", "."): {group} for group in self.groups}
        """The groups that have a key, by its path."""
        for file in self.files.values():
            for key in file.keys if file.group != PRESETS else ():
                self._homes.setdefault(key.path, set()).add(file.group)

    def lineage(self, file: File) -> list[File]:
        """Return the file and the files that it extends, the nearest first."""
        paths = [f"{file.group}/{name}".lstrip("/").rpartition("/") for name in file.bases]
        bases = [self.files[group, name] for group, _, name in paths]
        return [file, *(ancestor for base in bases for ancestor in self.lineage(base))]

    def defines(self, file: File, key: Key) -> bool:
        """Return True if the key is defined here and not in a base, another group or the command."""
        if file.group in ("", PRESETS):
            return file.group == ""
        inherited = any(key.path == other.path for base in self.lineage(file)[1:] for other in base.keys)
        homes = self._homes[key.path]
        inside = [group for group in homes if group and key.path.startswith(f"{group.replace('/', '.')}.")]
        return not inherited and (homes == {file.group} or max(inside, key=len, default=None) == file.group)

    def part_of(self, file: File, key: Key) -> str | None:
        """Return the class of the component that has the key as an argument, or None."""
        home, lineage = key.path.rpartition(".")[0], self.lineage(file)
        inside = (other.target for each in lineage for other in each.keys if other.path == home)
        return next(filter(None, (*inside, *(each.target for each in lineage if each.path == home))), None)

    def undocumented(self) -> list[str]:
        """Return the keys that have no comment where they are defined."""
        return [
            f"{file.group}/{file.name}.yaml: {key.path}".lstrip("/")
            for file in self.files.values()
            for key in file.keys
            if self.defines(file, key) and not key.comment and not key.is_hydras
        ]


def _inside(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {name.value: value for name, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _target(node: yaml.Node | None) -> str | None:
    target = _inside(node).get(TARGET)
    return target.value if target else None
