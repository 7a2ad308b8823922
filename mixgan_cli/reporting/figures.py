"""Figures of what a run learned, drawn from its generator: saved as PNG for the page and W&B, as PDF for a paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting import learned
from mixgan_cli.reporting.plane import draw_levels
from mixgan_cli.runtime.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.6
"""Inches of one image's side."""
FOR_AVERAGES, FOR_WEIGHTS, STEPS, EACH = 500, 10_000, 9, 5
"""Latents for averages, latents for all that looks at weights alone, images along a path, top samples an expert. 500,
10,000 and 5 are the HMoG thesis's."""

SHOWN = 64
"""Experts, or nodes of a level, that are drawn at most."""

CAPTIONS: Mapping[str, tuple[str, str]] = {
    "snapshots": ("Snapshots", "How it came about: sample pictures of the run, from an early one to the last."),
    "tree": (
        "The tree",
        f"For each node the average of {FOR_AVERAGES} samples, each weighed by the node's density; below it the node's "
        "share of all samples. A parent is the blend of its children.",
    ),
    "experts": (
        "The experts",
        f"What each makes: the average of {FOR_AVERAGES} samples, each weighed by the expert's share in it; below it "
        "the expert's share of all samples.",
    ),
    "levels": (
        "The tree by level",
        "Points in the plane in their node's colour, as opaque as its density there.",
    ),
    "top": (
        "Top samples",
        f"Of {FOR_WEIGHTS:,} latents the {EACH} for which each expert has the largest weight, the largest above. The "
        "mixture made them.",
    ),
    "covariance": (
        "Gate covariance",
        f"Who works with whom: covariance of the experts' weights over {FOR_WEIGHTS:,} latents, divided by its largest "
        "absolute entry. In a tree, blocks on the diagonal are siblings that share their work.",
    ),
    "within": (
        "Within experts",
        "From one latent to another, each expert alone; the last row, of soft gates, is the mixture.",
    ),
    "across": (
        "Across experts",
        "At one latent, from each expert to the next, by weights from 1 : 0 to 0 : 1.",
    ),
}
"""Every figure of a run, in the order in which the page shows them: its title and what it shows."""


def figures(sampler: Sampler, reals: Tensor | None, seed: int) -> Iterator[tuple[str, Figure]]:
    """Draw what this generator has to show, as (name, figure) with the names of CAPTIONS.

    Args:
        sampler: the generator.
        reals: points [N, 2], where the data are in the plane; not needed for images.
        seed: of the latents.
    """
    samples, weights_NK = sampler.draw(FOR_AVERAGES if reals is None else 2000, seed)
    images, hierarchical = samples.dim() == 4, sampler.generator.gate.hierarchical
    if hierarchical and images and sampler.k > 1:
        yield "tree", draw_tree(samples, weights_NK)
    elif hierarchical and reals is not None:
        yield "levels", draw_levels(samples, weights_NK, reals)
    elif images and sampler.k > 1:
        yield "experts", draw_averages(samples, weights_NK[:, :SHOWN])
    if sampler.k > 1 and not sampler.hard:
        if images:
            top = learned.top_samples(sampler, FOR_WEIGHTS, EACH, seed)[:SHOWN].transpose(0, 1)
            yield "top", draw_sheet(top, None, [f"{expert}" for expert in range(top.shape[1])])
        yield "covariance", draw_covariance(learned.covariance(learned.weighed(sampler, FOR_WEIGHTS, seed)[1]))
    if images:
        within = learned.within_experts(sampler, STEPS, seed)
        alone = min(sampler.k, learned.ROWS)
        names = [f"expert {expert}" for expert in range(alone)] + ["mixture"] * (len(within) - alone)
        yield "within", draw_sheet(within, names)
    if images and sampler.k > 1:
        across = learned.across_experts(sampler, STEPS, seed)
        yield "across", draw_sheet(across, [f"{i} to {j}" for i, j in pairwise(range(len(across) + 1))])


def save(figure: Figure, folder: Path, name: str, pdf: bool = True) -> Path:
    """Write a figure as NAME.png and, if wanted, NAME.pdf, and return the PNG's path."""
    for suffix in ("pdf", "png") if pdf else ("png",):
        with atomic_write(folder / f"{name}.{suffix}") as temporary:
            figure.savefig(
                temporary, format=suffix, dpi=120, metadata={"CreationDate": None} if suffix == "pdf" else None
            )
    return folder / f"{name}.png"


def draw_tree(images_NCHW: Tensor, weights_NK: Tensor) -> Figure:
    """Draw a binary tree of average images [N, C, H, W], weighed by the leaves' weights [N, K], the root above."""
    nodes = [density_NM for density_NM in learned.levels(weights_NK) if density_NM.shape[1] <= SHOWN]
    leaves = len(nodes[-1][0])
    figure, axes = _canvas(leaves * 1.15, len(nodes) * 1.5)
    centres = [
        [(node + 0.5) * leaves / len(density_NM[0]) for node in range(len(density_NM[0]))] for density_NM in nodes
    ]
    for level, density_NM in enumerate(nodes):
        for node, image in enumerate(_shown(learned.averages(images_NCHW, density_NM))):
            x, y = centres[level][node], -1.4 * level
            if level:
                axes.plot([centres[level - 1][node // 2], x], [y + 0.68, y + 0.45], color="0.7", linewidth=1, zorder=0)
            axes.imshow(image, extent=(x - 0.45, x + 0.45, y - 0.45, y + 0.45), interpolation="nearest")
            axes.text(x, y - 0.5, f"{density_NM[:, node].mean():.0%}", ha="center", va="top", fontsize=7)
    axes.set(xlim=(0, leaves), ylim=(-1.4 * len(nodes) + 0.7, 0.5))
    return figure


def draw_averages(images_NCHW: Tensor, weights_NK: Tensor, columns: int = 8) -> Figure:
    """Draw each expert's average image with its share of all samples."""
    usage_K = weights_NK.double().mean(dim=0)
    rows = math.ceil(len(usage_K) / columns)
    columns = min(columns, len(usage_K))
    figure, axes = _canvas(columns * 1.15, rows * 1.5)
    for expert, image in enumerate(_shown(learned.averages(images_NCHW, weights_NK))):
        x, y = expert % columns + 0.5, -1.4 * (expert // columns)
        axes.imshow(image, extent=(x - 0.45, x + 0.45, y - 0.45, y + 0.45), interpolation="nearest")
        axes.text(x, y - 0.5, f"{expert}: {usage_K[expert]:.0%}", ha="center", va="top", fontsize=7)
    axes.set(xlim=(0, columns), ylim=(-1.4 * rows + 0.7, 0.5))
    return figure


def draw_sheet(
    images_RTCHW: Tensor, row_names: Sequence[str] | None, column_names: Sequence[str] | None = None
) -> Figure:
    """Draw images [rows, columns, C, H, W] as a table, its rows or columns named."""
    rows, columns, _, height, width = images_RTCHW.shape
    gap = max(1, height // 32)
    # one picture, for many take long to draw
    sheet = np.full((rows * (height + gap), columns * (width + gap), 3), 255, dtype=np.uint8)
    for row, column in np.ndindex(rows, columns):
        y, x = row * (height + gap), column * (width + gap)
        sheet[y : y + height, x : x + width] = _shown(images_RTCHW[row, column : column + 1])[0]
    figure, axes = _canvas(columns + (1.2 if row_names else 0), rows + (0.4 if column_names else 0))
    axes.imshow(sheet, extent=(0, columns, -rows, 0), interpolation="nearest")
    for row, name in enumerate(row_names or ()):
        axes.text(-0.1, -row - 0.5, name, ha="right", va="center", fontsize=7)
    for column, name in enumerate(column_names or ()):
        axes.text(column + 0.5, 0.1, name, ha="center", va="bottom", fontsize=7)
    axes.set(xlim=(-1.2 if row_names else 0, columns), ylim=(-rows, 0.4 if column_names else 0))
    return figure


def draw_covariance(covariance_KK: Tensor) -> Figure:
    """Draw a covariance of the experts' weights [K, K], divided by its largest absolute entry."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    largest = covariance_KK.abs().max().item()
    figure = Figure(figsize=(4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow((covariance_KK / (largest or 1)).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set(xlabel="expert", ylabel="expert")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=min(len(covariance_KK), 8)))
    figure.colorbar(shown, label=f"covariance (1 is {largest:.2g})")
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return one empty axes, its size in images."""
    from matplotlib.figure import Figure  # here, for it takes a second to import

    figure = Figure(figsize=(CELL * width, CELL * height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    return figure, axes


def _shown(images_NCHW: Tensor) -> np.ndarray:
    """Images as matplotlib takes them: uint8 [N, H, W, 3]."""
    images = images_NCHW.round().to(torch.uint8)
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return images.permute(0, 2, 3, 1).numpy()
