"""Plots of a run: learning curves and grids of samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torchvision.utils import make_grid

from mixgan_cli.evaluation.metrics.registry import panel_of
from mixgan_cli.reporting.read_run import open_png, read_png
from mixgan_cli.runtime.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[tuple[float, float]]
"""(images shown, value) pairs, in order."""
PANELS: Mapping[str, tuple[str, ...]] = {
    "losses": ("loss/", "penalty"),
    "scores": ("score/",),
    "usage of the experts": ("gate_usage/", "gate_prior/"),
}
"""Panels of what training records: the title and how the names begin. Metrics name their own panel."""
UNITS = {"losses": "loss", "scores": "score by the discriminator", "usage of the experts": "share of the samples"}
"""Labels of the vertical axis, where it is not the title."""
REAL = "real.png"
"""Name of the grid of real images, next to those of samples."""
QUARTER_PANEL, PLOT_PANEL = 1.9, 2.7
"""Sides of a snapshot: the quarter of a grid, and a plot of points [inches]."""
MAX_PANELS = 30
MIN_SIDE = 48
"""Smallest side of an image in a grid [pixels]; smaller images are enlarged."""


def draw_curves(curves: Mapping[str, Points], columns: int = 3) -> Figure | None:
    """Draw learning curves against images shown, a panel per kind; None if no curve has two points.

    Args:
        curves: points by name, as `read_run.read_curves` returns them.
        columns: panels in a row.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    panels = _panels(curves)
    if not panels:
        return None
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * min(columns, len(panels)), 2.4 * rows), layout="constrained")
    for number, (title, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, min(columns, len(panels)), number)
        for name in names:
            label = (name.partition("/")[2] or name) if len(names) > 1 else None
            marker = "." if len(curves[name]) < 30 else None
            axes.plot(*zip(*curves[name], strict=True), linewidth=1, marker=marker, label=label)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_xlabel("images shown", fontsize=8)
        axes.set_ylabel(UNITS.get(title, title), fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if 1 < len(names) <= 10:
            of_experts = title == "usage of the experts"
            axes.legend(
                fontsize=7, frameon=False, ncols=2 if len(names) > 5 else 1, title="expert" if of_experts else None,
                title_fontsize=7,
            )  # fmt: skip
    return figure


def draw_snapshots(pictures: Sequence[Path], panels: int = 5) -> Figure:
    """Draw a row of a run's sample pictures, in equal steps from an early one to the last.

    Of 20 pictures, the five are the 1st, 5th, 10th, 15th and 20th: MGGAN's figure 2 of a run of 20,000 iterations. Of
    a grid, the upper left quarter is shown.

    Args:
        pictures: PNG files that are named after the number of images shown, in order.
        panels: largest number of pictures drawn.
    """
    from matplotlib.figure import Figure

    panel = QUARTER_PANEL if (pictures[0].parent / REAL).is_file() else PLOT_PANEL
    chosen = sorted({max(round(len(pictures) * number / (panels - 1)) - 1, 0) for number in range(panels)})
    figure = Figure(figsize=(max(panel * len(chosen), 2.9), panel + 0.6), layout="constrained")
    for axes, number in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        folder = pictures[number].parent
        if picture := open_png(read_png(pictures[number], folder) or b""):
            axes.imshow(upper_left(picture.convert("RGB"), folder), interpolation="antialiased")
        axes.set_title(f"{int(pictures[number].stem):,} images", fontsize=9)
        axes.set_axis_off()
    figure.suptitle("Samples during training", fontsize=10)
    return figure


def upper_left(picture: Image.Image, folder: Path) -> Image.Image:
    """Return the upper left quarter of a grid of samples, or less if it has few rows; a plot of points is kept whole.

    Args:
        picture: the picture.
        folder: the folder of the run's samples, which has real images, too, if these are grids.
    """
    if not (folder / REAL).is_file():
        return picture
    side = picture.width // 2 + 1
    return picture.crop((0, 0, side, min(side, picture.height)))


def write_grid(path: Path, images_NCHW: Tensor, columns: int, software: str | None = None) -> None:
    """Write uint8 images [N, C, H, W] as one PNG; small images are enlarged by whole pixels to be visible.

    Args:
        path: the file.
        images_NCHW: the images.
        columns: images in a row.
        software: what the PNG names as its software; None: nothing.
    """
    grid = make_grid(images_NCHW, nrow=columns, padding=1, pad_value=255)
    zoom = max(1, -(-MIN_SIDE // images_NCHW.shape[-1]))
    picture = Image.fromarray(grid.permute(1, 2, 0).numpy())
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    texts = PngInfo()
    if software:
        texts.add_text("Software", software)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True, pnginfo=texts)


def _panels(curves: Mapping[str, Points]) -> dict[str, list[str]]:
    """Return the names of the curves in each panel, by the panel's title."""
    panels: dict[str, list[str]] = defaultdict(list)
    for name, points in curves.items():
        if len(points) > 1:
            panels[_panel_title(name)].append(name)
    return dict(list(panels.items())[:MAX_PANELS])


def _panel_title(name: str) -> str:
    """Return the title of the panel that a curve is drawn in: a shared one, or the curve's own."""
    recorded = next((title for title, starts in PANELS.items() if name.startswith(starts)), None)
    return recorded or panel_of(name) or name.partition("/")[0]
