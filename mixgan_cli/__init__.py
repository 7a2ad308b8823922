"""mixgan: GANs whose generator is a mixture of experts.

>>> import mixgan_cli
>>> generator = mixgan_cli.load("outputs/digits-hmog-…")        # doctest: +SKIP
>>> generator.sample(16, seed=0)                # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixgan_cli.models.load import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str):
    """Import `load` on first use, so that asking for the version does not import torch."""
    if name == "load":
        from mixgan_cli.models.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
