"""Pictures that a run draws while it trains: samples of fixed latents, and plots of what it learned."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import error_summary
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots.mixture import CAPTIONS, draw_nearest, mixture_plots
from mixgan_cli.reporting.plots.run import REAL, draw_snapshots, write_grid
from mixgan_cli.reporting.plots.save import save_figure
from mixgan_cli.reporting.plots.toy2d import draw_scatter
from mixgan_cli.runs import RunFolder

log = logging.getLogger("mixgan")


def captions(sampler: Sampler, reals: Tensor) -> dict[str, str]:
    """Return what each picture shows, by its name.

    Args:
        sampler: the generator.
        reals: real samples, [N, C, H, W] or [N, 2].
    """
    if reals.dim() == 2:
        samples = "Samples of fixed latents in the colours of their experts, next to real points."
    else:
        samples = "Samples of fixed latents." + (" Each row is one expert." if sampler.hard and sampler.k > 1 else "")
    return {"samples": samples, **{name: f"{title}. {text}" for name, (title, text) in CAPTIONS.items()}}


def draw_samples(folder: Path, nimg: int, sampler: Sampler, reals: Tensor, seed: int) -> Path:
    """Draw samples of fixed latents, and return the picture's path.

    Points are drawn as a scatter plot next to real ones, images as a grid with a row per hard expert. The first time,
    real images are drawn, too.

    Args:
        folder: folder of the picture.
        nimg: images shown so far, which name the picture.
        sampler: the generator.
        reals: real samples, [N, C, H, W] or [N, 2].
        seed: seed of the latents.
    """
    path, real = folder / f"{nimg:09d}.png", folder / REAL
    if reals.dim() == 2:
        fakes = sampler.draw(2000, seed)
        experts = fakes.weights_BK.argmax(dim=1)
        figure = draw_scatter(fakes.samples, reals[:2000], experts, f"Samples after {nimg:,} real points")
        return save_figure(figure, folder, path.stem, pdf=False)
    if not real.exists():
        write_grid(real, reals[:100], columns=10)
    if sampler.hard and sampler.k > 1:
        rows = [sampler.sample(10, seed, expert) for expert in range(sampler.k)]
        write_grid(path, torch.cat(rows), columns=10)
    else:
        write_grid(path, sampler.sample(100, seed), columns=10)
    return path


def draw_figures(
    folder: RunFolder, sampler: Sampler, reals: Tensor, seed: int, train: Packed | None = None, pdf: bool = True
) -> dict[str, Path]:
    """Plot what the run learned, and return the path of each figure. A failure is logged and never ends the run.

    Args:
        folder: the run's folder.
        sampler: the generator.
        reals: real samples, [N, C, H, W] or [N, 2].
        seed: seed of the samples.
        train: images in which the neighbours of samples are searched; None draws no neighbours.
        pdf: whether to write each figure as a PDF, too.
    """
    points = reals[:2000] if reals.dim() == 2 else None
    drawn = {}
    try:
        pictures = sorted(folder.samples.glob("[0-9]*.png"))[1:]  # without the untrained one
        if len(pictures) > 1:
            drawn["figures/snapshots"] = save_figure(draw_snapshots(pictures), folder.figures, "snapshots", pdf)
        if train is not None:
            drawn["figures/nearest"] = save_figure(draw_nearest(sampler, train, seed), folder.figures, "nearest", pdf)
        for name, figure in mixture_plots(sampler, points, seed):
            drawn[f"figures/{name}"] = save_figure(figure, folder.figures, name, pdf)
    except Exception as error:  # figures never end a run: the disk may be full, or a user's own component may fail
        log.warning("warning: figures could not be drawn (%s: %s)", type(error).__name__, error_summary(error))
    return drawn
