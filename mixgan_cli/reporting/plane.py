"""Pictures of a generator in the plane: how it came about, and what the nodes of its tree make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from mixgan_cli.reporting import learned
from mixgan_cli.runtime.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 360
"""Pixels of one panel."""


def write_snapshots(path: Path, pictures: Sequence[Path], panels: int = 5) -> Path:
    """Write a row of a run's sample pictures, an early one, then in equal steps to the last, and return where it is.

    Of 20 pictures, the five are the 1st, 5th, 10th, 15th and 20th: MGGAN's figure 2 of a run of 20,000 iterations.
    """
    chosen = sorted({max(round(len(pictures) * panel / (panels - 1)) - 1, 0) for panel in range(panels)})
    row = Image.new("RGB", (SIDE * len(chosen), SIDE), "white")
    for column, number in enumerate(chosen):
        with Image.open(pictures[number], formats=["PNG"]) as picture:
            row.paste(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (SIDE * column, 0))
    with atomic_write(path) as temporary:
        row.save(temporary, format="PNG", optimize=True)
    return path


def draw_levels(fake_N2: Tensor, weights_NK: Tensor, real_M2: Tensor) -> Figure:
    """Draw what each node of a binary tree makes, a panel a level: points in its colour, as opaque as its density.

    A node's density is the sum of its leaves' weights [N, K], which stand from left to right (HMoG thesis, toy figure).
    """
    from matplotlib.figure import Figure  # here, for it takes a second to import

    levels = learned.levels(weights_NK)
    figure = Figure(figsize=(3 * len(levels), 3.2), dpi=120, layout="constrained")
    reach = 1.1 * real_M2.abs().max().item()
    for axes, densities_NM in zip(figure.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        axes.scatter(real_M2[:, 0], real_M2[:, 1], s=2, color="0.8", rasterized=True)
        nodes = densities_NM.shape[1]
        for node in range(nodes):
            opacity = densities_NM[:, node].clamp(0, 1).numpy()
            color = f"C{node % 10}"
            axes.scatter(fake_N2[:, 0], fake_N2[:, 1], s=3, color=color, alpha=opacity, linewidths=0, rasterized=True)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"level {nodes.bit_length() - 1}: {nodes} node{'s' if nodes > 1 else ''}", fontsize="small")
    return figure
