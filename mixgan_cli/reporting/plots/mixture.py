"""Plots of what a mixture learned, drawn from its generator: PNG for the page and loggers, PDF for a paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots import mixture_analysis as analysis
from mixgan_cli.reporting.plots.toy2d import draw_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGE_INCHES = 0.6
"""Side of one image [inches]."""
N_AVERAGED, N_WEIGHTS, TOP_PER_EXPERT = 500, 10_000, 5
"""Latents for averages, latents for the gate's weights, top samples per expert: the numbers of the HMoG thesis."""
PATH_STEPS = 9
"""Images in an interpolation."""
MAX_NODES = 64
"""Largest number of experts, or of nodes in a level, that are drawn."""

CAPTIONS: Mapping[str, tuple[str, str]] = {
    "snapshots": ("Snapshots", "Samples during training, from an early stage to the end."),
    "tree": (
        "Tree",
        f"The average of {N_AVERAGED} samples at each node, weighted by the node's density, above the node's share of "
        "all samples. A parent is the weighted average of its children.",
    ),
    "experts": (
        "Experts",
        f"The average of {N_AVERAGED} samples for each expert, weighted by the expert's weight in each sample, above "
        "the expert's share of all samples.",
    ),
    "levels": (
        "Tree by level",
        "Generated points in the colour of their node, as opaque as the node's density there.",
    ),
    "top": (
        "Top samples",
        f"The {TOP_PER_EXPERT} of {N_WEIGHTS:,} latents with the largest weight for each expert, largest at the top. "
        "The images are those of the whole mixture.",
    ),
    "covariance": (
        "Gate covariance",
        f"Covariance of the experts' weights over {N_WEIGHTS:,} latents, divided by its largest absolute entry: which "
        "experts are active together. In a tree, blocks on the diagonal are siblings that share samples.",
    ),
    "within": (
        "Within experts",
        "Interpolation between two latents, with each expert alone. With a soft gate, the last row is the mixture.",
    ),
    "across": (
        "Across experts",
        "Interpolation from each expert to the next at one latent, with weights from 1 : 0 to 0 : 1.",
    ),
}
"""Title and caption of every plot of a mixture, in the order of the page."""


def mixture_plots(sampler: Sampler, reals: Tensor | None, seed: int) -> Iterator[tuple[str, Figure]]:
    """Draw the plots that apply to this generator, as (name, figure) with the names of CAPTIONS.

    Args:
        sampler: the generator.
        reals: real points [N, 2] of a data set in the plane; None for images.
        seed: seed of the latents.
    """
    samples, weights_NK = sampler.draw(N_AVERAGED if reals is None else 2000, seed)
    images, hierarchical = samples.dim() == 4, sampler.generator.gate.hierarchical
    if hierarchical and images and sampler.k > 1:
        yield "tree", draw_tree(samples, weights_NK)
    elif hierarchical and reals is not None:
        yield "levels", draw_levels(samples, weights_NK, reals)
    elif images and sampler.k > 1:
        yield "experts", draw_averages(samples, weights_NK[:, :MAX_NODES])
    if sampler.k > 1 and not sampler.hard:
        if images:
            top = analysis.top_samples(sampler, N_WEIGHTS, TOP_PER_EXPERT, seed)[:MAX_NODES].transpose(0, 1)
            yield "top", draw_sheet(top, None, [f"{expert}" for expert in range(top.shape[1])])
        _, weights_NK = analysis.draw_weights(sampler, N_WEIGHTS, seed)
        yield "covariance", draw_covariance(analysis.weight_covariance(weights_NK))
    if images:
        within = analysis.interpolate_within(sampler, PATH_STEPS, seed)
        alone = min(sampler.k, analysis.MAX_ROWS)
        names = [f"expert {expert}" for expert in range(alone)] + ["mixture"] * (len(within) - alone)
        yield "within", draw_sheet(within, names)
    if images and sampler.k > 1:
        across = analysis.interpolate_across(sampler, PATH_STEPS, seed)
        yield "across", draw_sheet(across, [f"{i} to {j}" for i, j in pairwise(range(len(across) + 1))])


def draw_tree(images_NCHW: Tensor, weights_NK: Tensor) -> Figure:
    """Draw a binary tree of average images, root at the top, from images [N, C, H, W] and leaf weights [N, K]."""
    nodes = [density_NM for density_NM in analysis.node_densities(weights_NK) if density_NM.shape[1] <= MAX_NODES]
    leaves = len(nodes[-1][0])
    figure, axes = _canvas(leaves * 1.15, len(nodes) * 1.5)
    centres = [
        [(node + 0.5) * leaves / len(density_NM[0]) for node in range(len(density_NM[0]))] for density_NM in nodes
    ]
    for level, density_NM in enumerate(nodes):
        for node, image in enumerate(_to_rgb(analysis.expert_averages(images_NCHW, density_NM))):
            x, y = centres[level][node], -1.4 * level
            if level:
                axes.plot([centres[level - 1][node // 2], x], [y + 0.68, y + 0.45], color="0.7", linewidth=1, zorder=0)
            axes.imshow(image, extent=(x - 0.45, x + 0.45, y - 0.45, y + 0.45), interpolation="nearest")
            axes.text(x, y - 0.5, f"{density_NM[:, node].mean():.0%}", ha="center", va="top", fontsize=7)
    axes.set(xlim=(0, leaves), ylim=(-1.4 * len(nodes) + 0.7, 0.5))
    return figure


def draw_averages(images_NCHW: Tensor, weights_NK: Tensor, columns: int = 8) -> Figure:
    """Draw each expert's average image and its share of all samples."""
    usage_K = weights_NK.double().mean(dim=0)
    rows = math.ceil(len(usage_K) / columns)
    columns = min(columns, len(usage_K))
    figure, axes = _canvas(columns * 1.15, rows * 1.5)
    for expert, image in enumerate(_to_rgb(analysis.expert_averages(images_NCHW, weights_NK))):
        x, y = expert % columns + 0.5, -1.4 * (expert // columns)
        axes.imshow(image, extent=(x - 0.45, x + 0.45, y - 0.45, y + 0.45), interpolation="nearest")
        axes.text(x, y - 0.5, f"{expert}: {usage_K[expert]:.0%}", ha="center", va="top", fontsize=7)
    axes.set(xlim=(0, columns), ylim=(-1.4 * rows + 0.7, 0.5))
    return figure


def draw_sheet(
    images_RTCHW: Tensor, row_names: Sequence[str] | None, column_names: Sequence[str] | None = None
) -> Figure:
    """Draw images [rows, columns, C, H, W] as a table with named rows or columns."""
    rows, columns, _, height, width = images_RTCHW.shape
    gap = max(1, height // 32)
    # one large picture, because matplotlib draws many small ones slowly
    sheet = np.full((rows * (height + gap), columns * (width + gap), 3), 255, dtype=np.uint8)
    for row, column in np.ndindex(rows, columns):
        y, x = row * (height + gap), column * (width + gap)
        sheet[y : y + height, x : x + width] = _to_rgb(images_RTCHW[row, column : column + 1])[0]
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
    """Return a figure with empty axes; width and height are counted in images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(IMAGE_INCHES * width, IMAGE_INCHES * height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    return figure, axes


def _to_rgb(images_NCHW: Tensor) -> np.ndarray:
    """Return images in matplotlib's format, uint8 [N, H, W, 3]."""
    images = images_NCHW.round().to(torch.uint8)
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return images.permute(0, 2, 3, 1).numpy()
