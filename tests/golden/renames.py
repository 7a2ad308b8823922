"""Translate a recording of an older tree to today's names, and list what differs beyond the declared differences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

DECLARED = Path(__file__).with_name("renames.yaml")
SECTIONS = ("weights", "moving average", "losses", "results")
"""Parts of a case's recording, each {key: value}."""
TABLES = ("keys", "values", "removed", "added")
MISSING = object()


class Renames:
    """The declared differences, as renames.yaml explains them."""

    def __init__(self, declared: Mapping[str, Any] | None = None) -> None:
        self.declared = yaml.safe_load(DECLARED.read_text(encoding="utf-8")) if declared is None else declared
        self.used: dict[str, int] = {}
        """How often each declared difference occurred."""
        for name, rules in [("", self.declared), *(self.declared.get("only") or {}).items()]:
            known = {"overrides", "configuration", *SECTIONS} | ({"only"} if not name else set())
            tables = {t for section, r in rules.items() if section not in ("overrides", "only") for t in r or {}}
            if unknown := sorted((rules.keys() - known) | (tables - set(TABLES))):
                raise ValueError(f"{DECLARED.name}: {name} {', '.join(unknown)}: there is no such table")

    def overrides(self, name: str, words: Sequence[str]) -> list[str]:
        """Return the words of a recorded command line as today's."""
        translated: list[str] = []
        for word in words:
            new = next((table[word] for table in self._tables(name, "overrides") if word in table), None)
            if new is None:
                key, equals, value = word.partition("=")
                new = self._key(name, "configuration", key) + equals + value
            elif word != new:
                self._use(f"overrides: `{word}` → `{new if isinstance(new, str) else ' '.join(new)}`")
            translated += [new] if isinstance(new, str) else new
        return translated

    def differences(
        self,
        name: str,
        section: str,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        equal: Callable[[Any, Any], bool],
    ) -> list[str]:
        """Return a line for each difference that is not declared.

        Args:
            name: of the case or experiment.
            section: one of SECTIONS, or configuration.
            old: the recorded values by key.
            new: today's values by key.
            equal: whether a recorded value, with its names translated, equals today's.
        """
        translated: dict[str, Any] = {}
        lines = []
        for key, value in old.items():
            new_key = self._key(name, section, key)
            if new_key in translated:
                lines.append(f"{new_key}: two recorded keys have this name")
            translated[new_key] = self._value(name, section, value)
        for key in [*translated, *(new.keys() - translated.keys())]:
            before, now = translated.get(key, MISSING), new.get(key, MISSING)
            if before is not MISSING and now is not MISSING and equal(before, now):
                continue
            removed = before is MISSING or self._allows(name, section, "removed", key, before)
            added = now is MISSING or self._allows(name, section, "added", key, now)
            if not (removed and added):
                lines.append(f"{key}: {_show(before)} → {_show(now)}")
        return sorted(lines)

    def _tables(self, name: str, section: str) -> Iterator[dict[Any, Any]]:
        """Yield a section's tables: first those of the patterns that fit the name, then those of all."""
        for pattern, rules in (self.declared.get("only") or {}).items():
            if fnmatchcase(name, pattern):
                yield rules.get(section) or {}
        yield self.declared.get(section) or {}

    def _rules(self, name: str, section: str, table: str) -> Iterator[tuple[Any, Any]]:
        for tables in self._tables(name, section):
            yield from (tables.get(table) or {}).items()

    def _key(self, name: str, section: str, key: str) -> str:
        for old, new in self._rules(name, section, "keys"):
            if found := _fits(old, key):
                parts = iter(found.groups())
                self._use(f"{section}: `{old}` → `{new}`")
                return re.sub(r"\*", lambda _: next(parts), new) + key[found.end() :]  # noqa: B023
        return key

    def _value(self, name: str, section: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(name, section, item) for item in value]
        for old, new in self._rules(name, section, "values"):
            if isinstance(value, type(old)) and value == old:
                self._use(f"{section}: the value `{old}` → `{new}`")
                return new
        return value

    def _allows(self, name: str, section: str, table: str, key: str, value: Any) -> bool:
        for pattern, allowed in self._rules(name, section, table):
            if _fits(pattern, key) and (allowed == "any" or value == allowed):
                self._use(f"{section}: {table} `{pattern}: {allowed}`")
                return True
        return False

    def _use(self, what: str) -> None:
        self.used[what] = self.used.get(what, 0) + 1


def _fits(pattern: str, key: str) -> re.Match[str] | None:
    """Match a key, or one above it, with a pattern whose stars stand for one part each."""
    return re.match("([^.]*)".join(map(re.escape, pattern.split("*"))) + r"(?=\.|$)", key)


def _show(value: Any) -> str:
    if value is MISSING:
        return "(absent)"
    if hasattr(value, "shape"):
        return f"tensor {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}…"
