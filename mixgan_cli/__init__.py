"""mixgan: GANs whose generator is a mixture of experts.

>>> import mixgan_cli
>>> generator = mixgan_cli.load("outputs/digits-hmog-…")        # doctest: +SKIP
>>> generator.sample(16, seed=0)                                # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixgan_cli.api import for_torch_fidelity as for_torch_fidelity
    from mixgan_cli.api import load as load

__version__ = "0.2.0"
__all__ = ["__version__", "for_torch_fidelity", "load"]


def __getattr__(name: str):
    """Import the Python interface on first use, so that asking for the version does not import torch."""
    if name in ("load", "for_torch_fidelity"):
        from mixgan_cli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
