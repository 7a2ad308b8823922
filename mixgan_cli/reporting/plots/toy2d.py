"""Plots of a generator of points in the plane: samples, snapshots of training, and the nodes of its tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from mixgan_cli.reporting.plots.mixture_analysis import node_densities
from mixgan_cli.runtime.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_SIDE = 360
"""Side of one snapshot [pixels]."""


def write_scatter(path: Path, fake_N2: Tensor, real_M2: Tensor | None, expert_N: Tensor, title: str) -> None:
    """Write generated points, coloured by expert, as a PNG, with the real points in grey if they are given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if real_M2 is not None:
        axes.scatter(real_M2[:, 0], real_M2[:, 1], s=4, color="0.75", label="real", rasterized=True)
    for expert in expert_N.unique().tolist():
        x, y = fake_N2[expert_N == expert].T
        axes.scatter(x, y, s=4, color=f"C{expert % 10}", label=f"expert {expert}")
    extent = 1.15 * (fake_N2 if real_M2 is None else real_M2).abs().max().item()
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=title)
    axes.legend(loc="upper right", fontsize="x-small", markerscale=2)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def write_snapshots(path: Path, pictures: Sequence[Path], panels: int = 5) -> Path:
    """Write a row of a run's sample pictures, in equal steps from an early one to the last, and return its path.

    Of 20 pictures, the five are the 1st, 5th, 10th, 15th and 20th: MGGAN's figure 2 of a run of 20,000 iterations.
    """
    chosen = sorted({max(round(len(pictures) * panel / (panels - 1)) - 1, 0) for panel in range(panels)})
    row = Image.new("RGB", (PANEL_SIDE * len(chosen), PANEL_SIDE), "white")
    for column, number in enumerate(chosen):
        with Image.open(pictures[number], formats=["PNG"]) as picture:
            panel = picture.convert("RGB").resize((PANEL_SIDE, PANEL_SIDE), Image.Resampling.LANCZOS)
            row.paste(panel, (PANEL_SIDE * column, 0))
    with atomic_write(path) as temporary:
        row.save(temporary, format="PNG", optimize=True)
    return path


def draw_levels(fake_N2: Tensor, weights_NK: Tensor, real_M2: Tensor) -> Figure:
    """Draw a panel for each level of a binary tree: points in their node's colour, as opaque as the node's density.

    A node's density is the sum of its leaves' weights [N, K], ordered from left to right (HMoG thesis, toy figure).
    """
    from matplotlib.figure import Figure

    levels = node_densities(weights_NK)
    figure = Figure(figsize=(3 * len(levels), 3.2), dpi=120, layout="constrained")
    extent = 1.1 * real_M2.abs().max().item()
    for axes, densities_NM in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        axes.scatter(real_M2[:, 0], real_M2[:, 1], s=2, color="0.8", rasterized=True)
        nodes = densities_NM.shape[1]
        for node in range(nodes):
            opacity = densities_NM[:, node].clamp(0, 1).numpy()
            color = f"C{node % 10}"
            axes.scatter(fake_N2[:, 0], fake_N2[:, 1], s=3, color=color, alpha=opacity, linewidths=0, rasterized=True)
        axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"level {nodes.bit_length() - 1}: {nodes} node{'s' if nodes > 1 else ''}", fontsize="small")
    return figure
