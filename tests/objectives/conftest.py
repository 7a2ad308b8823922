"""Fixtures of several tests of objectives."""

from tests.training.conftest import double

__all__ = ["double"]
