"""Keys and choices of the configuration that had another name, so that an old name gives "renamed to …"."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    # keys, each with all keys below it
    "logger.sinks": "logger",
    # choices: GROUP=CHOICE
}


def renamed(name: str) -> str | None:
    """Return the new name of an old key (`a.b.c`) or choice (`group=choice`), or None if the name is not an old one."""
    head, tail = name, ""
    while head not in RENAMED:
        head, dot, last = head.rpartition(".")
        if not dot:
            return None
        tail = f".{last}{tail}"
    return RENAMED[head] + tail
