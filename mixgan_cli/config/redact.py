"""Keep secrets out of configurations, logs and files."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable

from mixgan_cli.errors import ConfigError

SECRET_WORDS = "api_?key|access_?key|token|secret|password"
SECRET_NAME = re.compile(rf"(?:{SECRET_WORDS})$", re.IGNORECASE)
SECRET_ASSIGNMENT = re.compile(rf"(?<![\w.])([\w.]*(?:{SECRET_WORDS}))['\"]?\s*[=:]", re.IGNORECASE)
MIN_LENGTH = 8
"""Shortest secret that is looked for, in characters; a shorter word may occur in any text."""


def refuse_secrets(overrides: Iterable[str]) -> None:
    """Refuse overrides that hold a secret, because a run's files keep its configuration and command.

    Raises:
        ConfigError: a key has the name of a secret, or a value holds $WANDB_API_KEY. The message does not repeat it.
    """
    for override in overrides:
        if secret := SECRET_ASSIGNMENT.search(override):
            raise ConfigError(
                f"{secret[1]}: secrets cannot be part of a configuration, because it is stored in files. "
                "Use `wandb login` or $WANDB_API_KEY to log in to W&B"
            )
        refuse_wandb_key(override)


def refuse_wandb_key(text: str) -> None:
    """Refuse a text that holds the value of $WANDB_API_KEY.

    Raises:
        ConfigError: it does.
    """
    key = os.environ.get("WANDB_API_KEY", "")
    if len(key) >= MIN_LENGTH and key in text:
        raise ConfigError(
            "a value holds $WANDB_API_KEY, which would be stored in files. Leave it out; W&B reads the variable itself"
        )


def masked(text: str) -> str:
    """Replace the values of environment variables with the name of a secret in a text."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= MIN_LENGTH:
            text = text.replace(value, f"(${name})")
    return text


class RedactingFormatter(logging.Formatter):
    """A formatter that removes secrets, which a library's error may quote."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of a record without secrets."""
        return masked(super().format(record))


log = logging.getLogger("mixgan")


def log_to_stderr() -> None:
    """Log mixgan's messages to stderr as plain text, and silence Hydra, whose errors mixgan reports itself."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(RedactingFormatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    for name in ("hydra", "hydra_plugins"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
