"""Errors that are shown as one message without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error the user can fix: a configuration, a file, a folder. Exit code 2."""


class ConfigError(UserError):
    """A key, value, choice or combination is not valid."""


class DataError(UserError):
    """Data are missing, unreadable or too few."""


class RunError(UserError):
    """A run's folder cannot be used."""


class TrainingStopped(Exception):
    """Training cannot continue, for example because weights are no longer finite. Exit code 1."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the closest of `words`, or an empty string if none is close."""
    close = get_close_matches(word, list(words), n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


class Unavailable(Exception):
    """A metric cannot be computed. The message is the reason, with what would make it available."""
