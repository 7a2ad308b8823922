"""Save figures as PNG for light and dark pages, and as PDF for papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mixgan_cli.runtime.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK = "dark"
"""Name of the folder of the dark versions, next to the light ones."""
DEFAULT_INK = "black"
"""The colour of text and lines without a colour of their own, as matplotlib calls it.

Text on coloured cells is #000000, so that it stays as it is in the dark version.
"""
DARK_INK, DARK_GROUND = "#e6e6e4", "#212427"
"""Colours of the dark page."""


def save_figure(figure: Figure, folder: Path, name: str, pdf: bool = True) -> Path:
    """Save a figure as NAME.png, as dark/NAME.png and, if `pdf` is true, as NAME.pdf. Return the path of the first.

    The layout is computed once, for all files. The figure has the colours of the dark version afterwards.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine(None)
    for suffix in ("pdf", "png") if pdf else ("png",):
        write_figure(figure, folder / f"{name}.{suffix}")
    _use_dark_colours(figure)
    write_figure(figure, folder / DARK / f"{name}.png")
    return folder / f"{name}.png"


def write_figure(figure: Figure, path: Path, software: str | None = None) -> None:
    """Write a figure as a PNG, or as a PDF if that is the path's suffix.

    Args:
        figure: the figure.
        path: the file.
        software: what a PNG names as its software; None: matplotlib.
    """
    of_png = {"Software": software} if software else None
    suffix, metadata = ("pdf", {"CreationDate": None}) if path.suffix == ".pdf" else ("png", of_png)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=suffix, dpi=120, metadata=metadata)


def _use_dark_colours(figure: Figure) -> None:
    """Give a dark ground to a figure, and bright ink to what has matplotlib's default one; images stay as they are."""
    from matplotlib.text import Text

    figure.set_facecolor(DARK_GROUND)
    for axes in figure.axes:
        axes.set_facecolor(DARK_GROUND)
        axes.tick_params(colors=DARK_INK)
        for spine in axes.spines.values():
            spine.set_color(DARK_INK)
        if legend := axes.get_legend():
            legend.get_frame().set_facecolor(DARK_GROUND)
    for text in figure.findobj(Text):
        if text.get_color() == DEFAULT_INK:
            text.set_color(DARK_INK)
