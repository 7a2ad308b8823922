"""A metric that cannot be computed says why. It is never zero, not-a-number, or silently absent."""

from __future__ import annotations


class Unavailable(Exception):
    """The reason, with what would make it available, and the metrics it holds for."""

    def __init__(self, reason: str, *names: str) -> None:
        super().__init__(reason)
        self.reason, self.names = reason, names
