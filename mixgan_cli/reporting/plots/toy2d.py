"""Plots of a generator of points in the plane: samples, and the nodes of its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mixgan_cli.reporting.plots.mixture_analysis import node_densities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IN_LEGEND = 16
"""Most nodes of a level that are named."""


def draw_scatter(fake_N2: Tensor, real_M2: Tensor | None, expert_N: Tensor, title: str) -> Figure:
    """Draw generated points, coloured by expert, with the real points in grey if they are given.

    The window is that of the real points; generated points outside are counted.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    if real_M2 is not None:
        axes.scatter(real_M2[:, 0], real_M2[:, 1], s=4, color="0.75", label="real", rasterized=True)
    for expert in expert_N.unique().tolist():
        x, y = fake_N2[expert_N == expert].T
        axes.scatter(x, y, s=4, color=f"C{expert % 10}", label=f"expert {expert}")
    extent = 1.15 * (fake_N2 if real_M2 is None else real_M2).abs().max().item()
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xlabel="x₁", ylabel="x₂")
    axes.set_title("\n".join([title, *_outside(fake_N2, extent)]))
    axes.legend(loc="upper right", fontsize="small", markerscale=2)
    return figure


def draw_levels(fake_N2: Tensor, weights_NK: Tensor, real_M2: Tensor) -> Figure:
    """Draw a panel for each level of a binary tree: points in their node's colour, as opaque as the node's density.

    A node's density is the sum of its leaves' weights [N, K], ordered from left to right (HMoG thesis, toy figure).
    """
    from matplotlib.figure import Figure

    levels = node_densities(weights_NK)
    figure = Figure(figsize=(3 * len(levels), 3.6), layout="constrained")
    extent = 1.1 * real_M2.abs().max().item()
    panels = figure.subplots(1, len(levels), squeeze=False)[0]
    for level, (axes, densities_NM) in enumerate(zip(panels, levels, strict=True)):
        axes.scatter(real_M2[:, 0], real_M2[:, 1], s=2, color="0.8", rasterized=True)
        nodes = densities_NM.shape[1]
        for node in range(nodes):
            opacity = densities_NM[:, node].clamp(0, 1).numpy()
            color, kind = f"C{node % 10}", "leaf" if level == len(levels) - 1 else "node"
            axes.plot([], [], ".", color=color, label=f"{kind} {node}")  # for the legend, as points may be transparent
            axes.scatter(fake_N2[:, 0], fake_N2[:, 1], s=3, color=color, alpha=opacity, linewidths=0, rasterized=True)
        axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xlabel="x₁", ylabel="x₂")
        axes.set_title(f"level {level}: {nodes} node{'s' if nodes > 1 else ''}", fontsize="small")
        if 1 < nodes <= MAX_IN_LEGEND:
            axes.legend(loc="upper right", fontsize=7, ncols=2, handletextpad=0, columnspacing=0.5)
    figure.supxlabel("\n".join(_outside(fake_N2, extent)), fontsize="small")
    return figure


def _outside(points_N2: Tensor, extent: float) -> list[str]:
    """Return a line with the number of points outside the window, if there are any."""
    outside = int((points_N2.abs() > extent).any(dim=1).sum())
    return [f"{outside:,} of {len(points_N2):,} generated points are outside"] if outside else []
