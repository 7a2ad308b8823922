"""Errors that are shown as one message, never as a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can mend: a configuration, a file, a folder. Exit code 2."""


class ConfigError(UserError):
    """A key, value, choice or combination that cannot work."""


class DataError(UserError):
    """Data that are missing, unreadable or too few."""


class RunError(UserError):
    """A run's folder that cannot be used as asked."""


class TrainingStopped(Exception):
    """Training cannot go on: a loss is no longer finite. Exit code 1."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `words`, or nothing where none is close."""
    close = get_close_matches(word, list(words), n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


class Unavailable(Exception):
    """A metric cannot be computed. The message is the reason, with what would make it available."""
