"""StyleGAN2-ADA's augmentation: blitting, geometry, colour and cutout, each fired with a probability p.

Karras et al. 2020, released code (NVlabs/stylegan2-ada-pytorch, d72cc7d). R3GAN uses it with a scheduled p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from mixgan_cli.config.schema import Run
from mixgan_cli.objectives.augment import Share
from mixgan_cli.objectives.augment_ada import AdaptiveStrength
from mixgan_cli.objectives.augment_geometry import Resampling, move, resampling, warp
from mixgan_cli.runtime.random import normal, uniform

TRANSFORMATIONS = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "rotate", "xfrac", "brightness", "contrast",
                   "lumaflip", "hue", "saturation", "cutout")  # fmt: skip
"""In the order in which they are applied, by the names of their multipliers."""
RESAMPLES, COLOURS = slice(3, 8), slice(8, 13)
XINT, XFRAC, SCALE, ANISO, BRIGHTNESS, CONTRAST, SATURATION = 1 / 8, 1 / 8, 0.2, 0.2, 0.2, 0.5, 1.0
"""Largest integer shift, standard deviations of the fractional shift (shares of the side), of the logarithms to base 2
of isotropic and anisotropic scale, of the brightness, and of the logarithms of contrast and saturation."""
CUTOUT = 0.5
"""Side of the hole, as a share of the image's."""


class BlitGeometryColor(nn.Module):
    """Up to 13 transformations of each image, drawn one by one: the pipeline `bgc` of StyleGAN2-ADA, and cutout.

    Each is applied with probability p times its multiplier, independently for each image. Mirrored, turned by 90° and
    shifted by whole pixels, images keep the values of their pixels; other geometric transformations resample them with
    twice the resolution. An image to which nothing is applied is not changed. Images that do not have three channels
    are taken as grey: hue and saturation do not change them. Images are in [-1, 1]; afterwards they may exceed it.

    Args:
        p: the probability; a schedule scales it.
        xflip: multiplier of a fair coin that mirrors left and right.
        rotate90: of a turn by 0°, 90°, 180° or 270°.
        xint: of a shift by whole pixels, up to an eighth of the side along each axis.
        scale: of a scale 2^N(0, 0.2²).
        rotate: of turns by U(-180°, 180°) before and after `aniso`, such that one or both are with this probability.
        aniso: of scales s and 1/s of the sides, s = 2^N(0, 0.2²).
        xfrac: of a shift by N(0, 1/8²) of the side along each axis.
        brightness: of an added N(0, 0.2²).
        contrast: of a factor 2^N(0, 0.5²).
        lumaflip: of a fair coin that negates the mean over the channels.
        hue: of a turn of the colours by U(-180°, 180°) about grey.
        saturation: of a factor 2^N(0, 1) of the distance from grey.
        cutout: of a square with half the side, set to 0, whose centre is uniform over the image.
        target: if given, p changes in training, see `AdaptiveStrength`; None: it does not.
        every: iterations (generator steps) between two changes of p.
        rise: number of real images in which p changes by 1.
    """

    images_only = True
    """True: points have no channels, rows and columns."""
    per_transformation = True
    """True: a schedule's factor scales the probability of each transformation, so it is passed to each call."""
    p: Tensor
    multipliers_T: Tensor
    is_rotation_T: Tensor
    colour_parts: Tensor

    def __init__(
        self,
        p: Share,
        xflip: NonNegativeFloat,
        rotate90: NonNegativeFloat,
        xint: NonNegativeFloat,
        scale: NonNegativeFloat,
        rotate: NonNegativeFloat,
        aniso: NonNegativeFloat,
        xfrac: NonNegativeFloat,
        brightness: NonNegativeFloat,
        contrast: NonNegativeFloat,
        lumaflip: NonNegativeFloat,
        hue: NonNegativeFloat,
        saturation: NonNegativeFloat,
        cutout: NonNegativeFloat,
        target: Annotated[float, Field(gt=-1, lt=1)] | None = None,
        every: PositiveInt = 4,
        rise: PositiveInt = 500_000,
    ) -> None:
        super().__init__()
        multiplier = {
            "xflip": xflip,
            "rotate90": rotate90,
            "xint": xint,
            "scale": scale,
            "rotate": rotate,
            "aniso": aniso,
            "xfrac": xfrac,
            "brightness": brightness,
            "contrast": contrast,
            "lumaflip": lumaflip,
            "hue": hue,
            "saturation": saturation,
            "cutout": cutout,
        }
        self.register_buffer("p", torch.tensor(p), False)
        self.register_buffer("multipliers_T", torch.tensor([multiplier[name] for name in TRANSFORMATIONS]), False)
        self.register_buffer("is_rotation_T", torch.tensor([name == "rotate" for name in TRANSFORMATIONS]), False)
        self.register_buffer("colour_parts", _colour_parts(), False)
        self.controller = None if target is None else AdaptiveStrength(p, target, every, rise)
        self._maps: dict[int, Resampling] = {}

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that p can follow the discriminator, if it is to.

        Raises:
            ConfigError: see `AdaptiveStrength.check_run`.
        """
        if arguments["target"] is not None:
            AdaptiveStrength.check_run(key, arguments, run)

    def probabilities(self, p: Tensor) -> Tensor:
        """Return the probability of each of the TRANSFORMATIONS at a strength p (a scalar), [14]."""
        one_T = self.multipliers_T * p
        return torch.where(self.is_rotation_T, 1 - (1 - one_T).clamp(min=0).sqrt(), one_T)

    def _strength(self, factor: Tensor | None) -> Tensor:
        """Return p, a scalar on the device: that of the controller, or the own one times a schedule's factor."""
        p = self.p if self.controller is None else self.controller.p
        return p if factor is None else p * factor

    def forward(self, images_NCSS: Tensor, factor: Tensor | None = None) -> Tensor:
        """Return augmented images [N, C, S, S] in float32 or better; `factor` is that of the schedule, a scalar."""
        n, device = len(images_NCSS), images_NCSS.device
        images_NCSS = images_NCSS.to(torch.promote_types(images_NCSS.dtype, torch.float32))
        with torch.autocast(device.type, enabled=False):
            fires_NT = uniform(n, len(TRANSFORMATIONS), device=device) < self.probabilities(self._strength(factor))
            uniform_N10, normal_N7 = uniform(n, 10, device=device), normal(n, 7, device=device)
            images_NCSS = self._transform(images_NCSS, fires_NT, uniform_N10[:, :6], normal_N7[:, :4])
            images_NCSS = self._colour(images_NCSS, fires_NT[:, COLOURS], uniform_N10[:, 6:8], normal_N7[:, 4:])
            return _cut(images_NCSS, fires_NT[:, -1], uniform_N10[:, 8:])

    def _transform(self, images_NCSS: Tensor, fires_NT: Tensor, uniform_N6: Tensor, normal_N4: Tensor) -> Tensor:
        """Mirror, turn, shift and scale images [N, C, S, S]."""
        side = images_NCSS.shape[-1]
        coin, quarter, *shift, before, after = uniform_N6.unbind(1)
        flip, rotate90, xint, scale, rotate_before, aniso, rotate_after, xfrac = fires_NT[:, :8].unbind(1)
        mirror_N = 1 - 2 * (flip & (coin < 0.5)).to(coin)
        quarters_N = (4 * quarter).floor() * rotate90
        cos_N, sin_N = ((quarters_N == turn).to(coin) - (quarters_N == turn + 2).to(coin) for turn in (0, 1))
        turned_N22 = _matrices(cos_N, -sin_N, sin_N * mirror_N, cos_N * mirror_N)
        shift_N2 = ((2 * torch.stack(shift, dim=1) - 1) * XINT * side).round() * xint.unsqueeze(1)
        resampled_N1 = fires_NT[:, RESAMPLES].any(dim=1, keepdim=True)
        images_NCSS = move(images_NCSS, turned_N22, shift_N2.where(~resampled_N1, 0))

        size_N, squeeze_N = (2 ** (SCALE * normal_N4[:, 0] * scale)), (2 ** (ANISO * normal_N4[:, 1] * aniso))
        squeeze_N22 = torch.diag_embed(torch.stack((squeeze_N, 1 / squeeze_N), dim=1) / size_N.unsqueeze(1))
        inverse_N22 = _rotations(before, rotate_before) @ squeeze_N22 @ _rotations(after, rotate_after)
        fraction_N2 = XFRAC * side * normal_N4[:, 2:] * xfrac.unsqueeze(1)
        offset_N2 = -(inverse_N22 @ fraction_N2.unsqueeze(2)).squeeze(2) - shift_N2
        if side not in self._maps:
            self._maps[side] = resampling(side, images_NCSS.device)
        warped_NCSS = warp(images_NCSS, inverse_N22, offset_N2, self._maps[side])
        return torch.where(resampled_N1[:, :, None, None], warped_NCSS, images_NCSS)

    def _colour(self, images_NCSS: Tensor, fires_N5: Tensor, uniform_N2: Tensor, normal_N3: Tensor) -> Tensor:
        """Change the colours of images [N, C, S, S].

        Brightness b, contrast c and luma flip f = ±1 make c f (x + b) of the mean over the channels, and the distance
        from grey is scaled by contrast and saturation and turned.
        """
        brightness, contrast, lumaflip, hue, saturation = fires_N5.unbind(1)
        added_N = BRIGHTNESS * normal_N3[:, 0] * brightness
        contrast_N = 2 ** (CONTRAST * normal_N3[:, 1] * contrast)
        negated = lumaflip & (uniform_N2[:, 0] < 0.5)
        grey_N = contrast_N * (1 - 2 * negated.to(added_N))
        changed_N = brightness | contrast | negated
        if images_NCSS.shape[1] == 3:
            vivid_N = contrast_N * 2 ** (SATURATION * normal_N3[:, 2] * saturation)
            angle_N = math.pi * (2 * uniform_N2[:, 1] - 1) * hue
            weights_N3 = torch.stack((grey_N, vivid_N * angle_N.cos(), vivid_N * angle_N.sin()), dim=1)
            matrices_N33 = (weights_N3 @ self.colour_parts.flatten(1)).unflatten(1, (3, 3)).to(images_NCSS.dtype)
            scaled_NCSS = (matrices_N33 @ images_NCSS.flatten(2)).view_as(images_NCSS)
            changed_N = changed_N | hue | saturation
        else:
            scaled_NCSS = grey_N[:, None, None, None] * images_NCSS
        coloured_NCSS = scaled_NCSS + (grey_N * added_N)[:, None, None, None]
        return torch.where(changed_N[:, None, None, None], coloured_NCSS, images_NCSS)


def _colour_parts() -> Tensor:
    """Return matrices [3, 3, 3] of colours: their mean, their distance from it, and its turn by 90° about grey."""
    mean = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return torch.stack((mean, torch.eye(3) - mean, turn))


def _matrices(a_N: Tensor, b_N: Tensor, c_N: Tensor, d_N: Tensor) -> Tensor:
    """Return the matrices with rows (a, b) and (c, d), [N, 2, 2]."""
    return torch.stack((a_N, b_N, c_N, d_N), dim=1).unflatten(1, (2, 2))


def _rotations(uniform_N: Tensor, fires_N: Tensor) -> Tensor:
    """Return rotations [N, 2, 2] by U(-180°, 180°), the identity where they do not fire."""
    angle_N = math.pi * (2 * uniform_N - 1) * fires_N
    cos_N, sin_N = angle_N.cos(), angle_N.sin()
    return _matrices(cos_N, -sin_N, sin_N, cos_N)


def _cut(images_NCSS: Tensor, fires_N: Tensor, centre_N2: Tensor) -> Tensor:
    """Set a square in each image [N, C, S, S] to 0; the part of it inside the image, and only where it fires."""
    side = images_NCSS.shape[-1]
    pixels = (torch.arange(side, device=images_NCSS.device) + 0.5) / side
    row_NS, column_NS = ((pixels - centre_N2.unsqueeze(2)).abs() < CUTOUT / 2).unbind(1)
    hole_NSS = row_NS.unsqueeze(2) & column_NS.unsqueeze(1) & fires_N[:, None, None]
    return images_NCSS.masked_fill(hole_NSS.unsqueeze(1), 0)
