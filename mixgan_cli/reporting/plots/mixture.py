"""Plots of what a mixture learned, drawn from its generator: PNG for the page and loggers, PDF for a paper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.data.packed import Packed
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots import mixture_analysis as analysis
from mixgan_cli.reporting.plots.toy2d import draw_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMAGE_INCHES = 0.6
"""Side of one image [inches]."""
MIN_INCHES = 2.9
"""Smallest width of a figure, so that its title fits [inches]."""
N_AVERAGED, N_WEIGHTS, TOP_PER_EXPERT = 500, 10_000, 5
"""Latents for averages, latents for the gate's weights, top samples per expert: the numbers of the HMoG thesis."""
PATH_STEPS = 9
"""Images in an interpolation."""
N_NEIGHBOURS, N_COMPARED = 3, 8
"""Nearest training images per sample, and samples."""
MAX_NODES = 64
"""Largest number of experts, or of nodes in a level, that are drawn."""

CAPTIONS: Mapping[str, tuple[str, str]] = {
    "snapshots": ("Snapshots", "Samples during training, from an early stage to the end."),
    "nearest": (
        "Nearest training images",
        "Samples, and below each the images of the training set that are nearest in pixels. Copies of training images "
        "would have a difference close to 0.",
    ),
    "tree": (
        "Tree",
        f"The average of {N_AVERAGED} samples at each node, weighted by the node's density, with the node's share of "
        "all samples. Below it, what the node changes relative to its parent: red is brighter, blue is darker. A "
        "parent is the weighted average of its children.",
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
    for name, figure in _plots(sampler, reals, seed):
        figure.suptitle(CAPTIONS[name][0], fontsize=10)
        yield name, figure


def _plots(sampler: Sampler, reals: Tensor | None, seed: int) -> Iterator[tuple[str, Figure]]:
    samples, weights_NK = sampler.draw(N_AVERAGED if reals is None else 2000, seed)
    images, hierarchical = samples.dim() == 4, sampler.generator.gate.hierarchical
    unit = "leaf" if hierarchical else "expert"
    steps = [f"{share:.3g}" for share in np.linspace(0, 1, PATH_STEPS)]
    if hierarchical and images and sampler.k > 1:
        yield "tree", draw_tree(samples, weights_NK)
    elif hierarchical and reals is not None:
        yield "levels", draw_levels(samples, weights_NK, reals)
    elif images and sampler.k > 1:
        yield "experts", draw_averages(samples, weights_NK[:, :MAX_NODES])
    if sampler.k > 1 and not sampler.hard:
        if images:
            top = analysis.top_samples(sampler, N_WEIGHTS, TOP_PER_EXPERT, seed)[:MAX_NODES].transpose(0, 1)
            ranks = [f"rank {rank}" for rank in range(1, len(top) + 1)]
            yield "top", draw_sheet(top, ranks, [f"{unit} {expert}" for expert in range(top.shape[1])])
        _, weights_NK = analysis.draw_weights(sampler, N_WEIGHTS, seed)
        yield "covariance", draw_covariance(analysis.weight_covariance(weights_NK), unit)
    if images:
        within = analysis.interpolate_within(sampler, PATH_STEPS, seed)
        alone = min(sampler.k, analysis.MAX_ROWS)
        names = [f"{unit} {expert}" for expert in range(alone)] + ["mixture"] * (len(within) - alone)
        yield "within", draw_sheet(within, names, steps, "share of the way from the first latent to the second")
    if images and sampler.k > 1:
        across = analysis.interpolate_across(sampler, PATH_STEPS, seed)
        names = [f"{unit} {i} to {j}" for i, j in pairwise(range(len(across) + 1))]
        yield "across", draw_sheet(across, names, steps, f"weight of the second {unit}")


def draw_nearest(sampler: Sampler, train: Packed, seed: int) -> Figure:
    """Draw samples, and below each the training images that are nearest in pixels."""
    samples = sampler.sample(N_COMPARED, seed)
    neighbours, distances = analysis.nearest_images(samples, train, min(N_NEIGHBOURS, len(train)))
    rows = torch.cat((samples.unsqueeze(1), neighbours), dim=1).transpose(0, 1)
    names = ["sample", "nearest", "2nd nearest", "3rd nearest"][: len(rows)]
    differences = [f"{distance:.3g}" for distance in distances[:, 0].tolist()]
    searched = f"{min(len(train), analysis.MAX_POOL):,} training images"
    label = f"RMS difference from the nearest of {searched} [grey levels of 255]"
    figure = draw_sheet(rows, names, differences, label)
    figure.suptitle(CAPTIONS["nearest"][0], fontsize=10)
    return figure


def draw_tree(images_NCHW: Tensor, weights_NK: Tensor) -> Figure:
    """Draw a binary tree of average images, root at the top, from images [N, C, H, W] and leaf weights [N, K].

    Below the average of a node is its difference from the parent's, averaged over colours, on one scale for all nodes.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    nodes = [density_NM for density_NM in analysis.node_densities(weights_NK) if density_NM.shape[1] <= MAX_NODES]
    averages = [analysis.expert_averages(images_NCHW, density_NM) for density_NM in nodes]
    changes = [(own - above.repeat_interleave(2, dim=0)).mean(dim=1) for above, own in pairwise(averages)]
    largest = max((change.abs().max().item() for change in changes), default=0.0) or 1.0
    scale = Normalize(-largest, largest)
    leaves, spacing = len(nodes[-1][0]), 2.45
    figure, axes = _canvas(leaves * 1.15, len(nodes) * spacing)

    def show(image: np.ndarray, x: float, y: float, **colours: Any) -> None:
        axes.imshow(image, extent=(x - 0.45, x + 0.45, y - 0.45, y + 0.45), interpolation="nearest", **colours)

    for level, density_NM in enumerate(nodes):
        y, width = -spacing * level if level else -0.95, leaves / len(density_NM[0])
        for node, image in enumerate(_to_rgb(averages[level])):
            x = (node + 0.5) * width
            show(image, x, y)
            if level:
                parent = (node // 2 + 0.5) * 2 * width
                foot = y + spacing - 1.68
                axes.plot([parent, x], [foot, y + 0.5], color="0.6", linewidth=1, zorder=0)
                show(changes[level - 1][node].numpy(), x, y - 0.95, cmap="RdBu_r", norm=scale)
            share = f"{density_NM[:, node].mean():.0%}"
            label = f"leaf {node}\n{share}" if len(density_NM[0]) == weights_NK.shape[1] else share
            axes.text(x, y - (1.42 if level else 0.48), label, ha="center", va="top", fontsize=8)
    axes.set(xlim=(0, leaves), ylim=(-spacing * (len(nodes) - 1) - 2.1, -0.45))
    label = "difference from the parent [grey levels of 255]"
    shrink = min(1, 6 / leaves)
    bar = figure.colorbar(
        ScalarMappable(scale, "RdBu_r"), ax=axes, location="bottom", shrink=shrink, aspect=30, pad=0.02
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def draw_averages(images_NCHW: Tensor, weights_NK: Tensor, columns: int = 8) -> Figure:
    """Draw each expert's average image and its share of all samples."""
    usage_K = weights_NK.double().mean(dim=0)
    rows = math.ceil(len(usage_K) / columns)
    columns = min(columns, len(usage_K))
    figure, axes = _canvas(columns * 1.15, rows * 1.8)
    for expert, image in enumerate(_to_rgb(analysis.expert_averages(images_NCHW, weights_NK))):
        x, y = expert % columns + 0.5, -1.7 * (expert // columns)
        axes.imshow(image, extent=(x - 0.45, x + 0.45, y - 0.45, y + 0.45), interpolation="nearest")
        axes.text(x, y - 0.5, f"expert {expert}\n{usage_K[expert]:.0%}", ha="center", va="top", fontsize=8)
    axes.set(xlim=(0, columns), ylim=(-1.7 * rows + 0.6, 0.5))
    return figure


def draw_sheet(
    images_RTCHW: Tensor, row_names: Sequence[str], column_names: Sequence[str], axis_label: str = ""
) -> Figure:
    """Draw images [rows, columns, C, H, W] as a table with named rows and columns.

    Args:
        images_RTCHW: the images, with values from 0 to 255.
        row_names: a name for each row.
        column_names: a name for each column.
        axis_label: what the columns' names mean.
    """
    rows, columns, _, height, width = images_RTCHW.shape
    gap = max(1, height // 32)
    # one large picture, because matplotlib draws many small ones slowly; the gaps are transparent
    sheet = np.zeros((rows * (height + gap), columns * (width + gap), 4), dtype=np.uint8)
    for row, column in np.ndindex(rows, columns):
        y, x = row * (height + gap), column * (width + gap)
        sheet[y : y + height, x : x + width, :3] = _to_rgb(images_RTCHW[row, column : column + 1])[0]
        sheet[y : y + height, x : x + width, 3] = 255
    margin, head = 0.3 + 0.12 * max(map(len, row_names)), 0.9 if axis_label else 0.4
    figure, axes = _canvas(columns + margin, rows + head + 0.4)
    axes.imshow(sheet, extent=(0, columns, -rows, 0), interpolation="nearest")
    for row, name in enumerate(row_names):
        axes.text(-0.1, -row - 0.5, name, ha="right", va="center", fontsize=8)
    for column, name in enumerate(column_names):
        axes.text(column + 0.5, 0.1, name, ha="center", va="bottom", fontsize=8)
    axes.text(columns / 2, 0.5, axis_label, ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(-margin, columns), ylim=(-rows, head))
    return figure


def draw_covariance(covariance_KK: Tensor, unit: str) -> Figure:
    """Draw a covariance of the experts' weights [K, K], divided by its largest absolute entry.

    Args:
        covariance_KK: the covariance.
        unit: what an expert is called: expert, or leaf.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    largest = covariance_KK.abs().max().item()
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow((covariance_KK / (largest or 1)).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set(xlabel=unit, ylabel=unit)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=min(len(covariance_KK), 8)))
    figure.colorbar(shown, label=f"covariance of the weights (1 is {largest:.2g})")
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with empty axes; width and height are counted in images."""
    from matplotlib.figure import Figure

    size = (max(IMAGE_INCHES * width, MIN_INCHES), IMAGE_INCHES * height)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    return figure, axes


def _to_rgb(images_NCHW: Tensor) -> np.ndarray:
    """Return images in matplotlib's format, uint8 [N, H, W, 3]."""
    images = images_NCHW.round().to(torch.uint8)
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return images.permute(0, 2, 3, 1).numpy()
