"""Keep secrets out of configurations, logs and files."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

from mixgan_cli.errors import ConfigError

SECRET_WORDS = "api_?key|access_?key|token|secret|password"
SECRET_NAME = re.compile(r"(?:key|token|secret|password|passwd|passphrase|credentials?)(?:_id)?$", re.IGNORECASE)
"""Names of environment variables whose values are secrets: HF_TOKEN, WANDB_API_KEY, AWS_ACCESS_KEY_ID."""
FROM_ENVIRONMENT = re.compile(r"oc\.env:\s*['\"]?(\w+)")
SECRET_ASSIGNMENT = re.compile(rf"(?<![\w.])([\w.]*(?:{SECRET_WORDS}))['\"]?\s*[=:]", re.IGNORECASE)
MIN_LENGTH = 8
"""Shortest secret that is looked for, in characters; a shorter word may occur in any text."""


def refuse_secrets(overrides: Iterable[str]) -> None:
    """Refuse overrides that hold a secret, because a run's files keep its configuration and command.

    Raises:
        ConfigError: a key has the name of a secret, or see `refuse_secret_values`. The message does not repeat it.
    """
    for override in overrides:
        if secret := SECRET_ASSIGNMENT.search(override):
            raise ConfigError(
                f"{secret[1]}: secrets cannot be part of a configuration, because it is stored in files. "
                "Use `wandb login` or $WANDB_API_KEY to log in to W&B"
            )
        refuse_secret_values(override)


def refuse_secret_values(text: str) -> None:
    """Refuse a text that holds, or asks for, the value of an environment variable with the name of a secret.

    Raises:
        ConfigError: it does. The message has the variable's name only.
    """
    asked = [name for name in FROM_ENVIRONMENT.findall(text) if SECRET_NAME.search(name)]
    held = [name for name, value in _secrets() if value in text or repr(value)[1:-1] in text]
    if names := [*asked, *held]:
        raise ConfigError(
            f"a value holds ${names[0]}, which would be stored in files. Leave it out; a program that needs a secret "
            "reads it from the environment itself"
        )


def _secrets() -> list[tuple[str, str]]:
    """Return the environment variables with the name of a secret whose values are long enough to be looked for."""
    return [
        (name, value) for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= MIN_LENGTH
    ]


def masked(text: str) -> str:
    """Replace the values of environment variables with the name of a secret in a text.

    They may be escaped as in Python, or quoted and broken into lines as in YAML.
    """
    for name, value in _secrets():
        for form in (value, value.replace("'", "''"), repr(value)[1:-1]):
            pattern = r"\s+".join(map(re.escape, form.split()))
            text = re.sub(pattern, f"(${name})", text) if pattern else text
    return text


@contextmanager
def masked_stdout() -> Iterator[None]:
    """Hold back what is printed to standard output in the block, and print it without secrets at the end.

    Raises:
        OSError: it cannot be written.
    """
    held = io.StringIO()
    try:
        with redirect_stdout(held):
            yield
    finally:
        sys.stdout.write(masked(held.getvalue()))


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
