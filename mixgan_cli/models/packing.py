"""Packing: the discriminator sees m samples at once and gives them one score (PacGAN: Lin et al. 2018, section 2).

The m samples of a pack are concatenated along their first axis: images on the channels, points on the coordinates. So
only the first layer of the discriminator becomes wider.
"""

from __future__ import annotations

from torch import Tensor

from mixgan_cli.models.backbones.base import Shape


def packed_shape(shape: Shape, m: int) -> Shape:
    """Return the shape of a pack of m samples: (m C, H, W) for images (C, H, W), (m D,) for points (D,)."""
    return (m * shape[0], *shape[1:])


def pack(samples: Tensor, m: int) -> Tensor:
    """Return packs [N / m, m C, …] of m consecutive samples [N, C, …]; with m = 1 the samples themselves.

    Raises:
        ValueError: N is not a multiple of m.
    """
    if len(samples) % m:
        raise ValueError(f"{len(samples)} samples make no whole packs of {m}")
    return samples if m == 1 else samples.unflatten(0, (-1, m)).flatten(1, 2)


def unpack(packs: Tensor, m: int) -> Tensor:
    """Return the samples [m P, C, …] of packs [P, m C, …], in the order in which `pack` got them."""
    return packs if m == 1 else packs.unflatten(1, (m, -1)).flatten(0, 1)
