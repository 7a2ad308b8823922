"""What people read: stderr. stdout is for scripts."""

from __future__ import annotations

import logging
import sys

from mixgan_cli import secrecy

log = logging.getLogger("mixgan")


def log_to_stderr() -> None:
    """Write mixgan's own messages to stderr, bare, and Hydra's nowhere: what it would log, ours say already."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(secrecy.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    for talkative in ("hydra", "hydra_plugins"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
