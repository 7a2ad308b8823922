"""Sample pictures: a grid of images, or a scatter of points."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from mixgan_cli.runtime.io import atomic_write

LEAST_SIDE = 48


def write_grid(path: Path, images_NCHW: Tensor, columns: int) -> None:
    """Write uint8 images as one PNG, small ones enlarged by whole pixels so that a person sees them."""
    grid = make_grid(images_NCHW, nrow=columns, padding=1, pad_value=255)
    zoom = max(1, -(-LEAST_SIDE // images_NCHW.shape[-1]))
    picture = Image.fromarray(grid.permute(1, 2, 0).numpy())
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def write_scatter(path: Path, fake_N2: Tensor, real_M2: Tensor | None, expert_N: Tensor, title: str) -> None:
    """Write generated points, coloured by expert, over real ones in grey where they are given, as a PNG."""
    from matplotlib.figure import Figure  # here, for it takes a second to import

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    if real_M2 is not None:
        axes.scatter(real_M2[:, 0], real_M2[:, 1], s=4, color="0.75", label="real", rasterized=True)
    for expert in expert_N.unique().tolist():
        x, y = fake_N2[expert_N == expert].T
        axes.scatter(x, y, s=4, color=f"C{expert % 10}", label=f"expert {expert}")
    margin = 1.15 * (fake_N2 if real_M2 is None else real_M2).abs().max().item()
    axes.set(xlim=(-margin, margin), ylim=(-margin, margin), aspect="equal", title=title)
    axes.legend(loc="upper right", fontsize="x-small", markerscale=2)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
