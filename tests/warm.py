"""What the processes of tests have imported before they begin (tests/processes.py)."""

import sklearn.datasets  # noqa: F401

import mixgan_cli.commands.evaluate
import mixgan_cli.commands.train  # noqa: F401
from tests import fast_hydra

fast_hydra.install()
