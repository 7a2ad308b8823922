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


def error_summary(error: BaseException) -> str:
    """Return the first line of an error's message: the system's text for an OSError, its type if it has no message."""
    message = ((error.strerror if isinstance(error, OSError) else None) or str(error)).strip()
    return message.splitlines()[0] if message else type(error).__name__


def normalized(word: str) -> str:
    """Return a name as mixgan writes names: lower case, with `_`."""
    return f"{word}".lower().replace("-", "_")


def closest(word: str, words: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """Return at most two of `words` that are spelled like `word`, the closest first; case and hyphens do not count."""
    originals = {normalized(each): each for each in words}
    return [originals[name] for name in get_close_matches(normalized(word), originals, n=2, cutoff=cutoff)]


def suggestion(words: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for one or several words, or an empty string for none."""
    quoted = " or ".join(map(repr, words))
    return f" Did you mean {quoted}?" if quoted else ""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the closest of `words`, or an empty string if none is close."""
    return suggestion(closest(word, words))


class Unavailable(Exception):
    """A metric cannot be computed. The message is the reason, with what would make it available."""
