"""Keep secrets out of configurations, logs and files, and set up logging to stderr accordingly."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable

from mixgan_cli.errors import ConfigError

WORDS = "api_?key|access_?key|token|secret|password"
NAMED = re.compile(rf"(?:{WORDS})$", re.IGNORECASE)
GIVEN = re.compile(rf"([\w.]*(?:{WORDS}))['\"]?\s*[=:]", re.IGNORECASE)
LEAST = 8
"""Characters of a secret; a shorter word may stand in any text."""


def refuse(overrides: Iterable[str]) -> None:
    """Refuse overrides that give a secret, without repeating it: a run's files keep its configuration and command.

    Raises:
        ConfigError: a key is called like a secret, or a value is that of $WANDB_API_KEY.
    """
    for override in overrides:
        if given := GIVEN.search(override):
            raise ConfigError(
                f"{given[1]}: a secret is no part of a configuration, which is kept in files. "
                "`wandb login` or $WANDB_API_KEY gives W&B its key"
            )
        refuse_key(override)


def refuse_key(text: str) -> None:
    """Refuse a text that holds the value of $WANDB_API_KEY. Raises ConfigError."""
    key = os.environ.get("WANDB_API_KEY", "")
    if len(key) >= LEAST and key in text:
        raise ConfigError(
            "a value holds that of $WANDB_API_KEY, which would be kept in files. Leave it out: W&B finds it"
        )


def masked(text: str) -> str:
    """Return a text without the values of environment variables that are called like secrets."""
    for name, value in os.environ.items():
        if NAMED.search(name) and len(value) >= LEAST:
            text = text.replace(value, f"(${name})")
    return text


class Formatter(logging.Formatter):
    """Messages without secrets: a library's error may quote one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message."""
        return masked(super().format(record))


log = logging.getLogger("mixgan")


def log_to_stderr() -> None:
    """Write mixgan's own messages to stderr, bare, and Hydra's nowhere: what it would log, ours say already."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    for talkative in ("hydra", "hydra_plugins"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
