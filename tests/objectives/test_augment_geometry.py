"""Moves of pixels against NumPy's, and resampling against SciPy's, each with the same inverse map."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from mixgan_cli.objectives.augment_geometry import SYM6, move, resampling, warp

CPU = torch.device("cpu")
IDENTITY = torch.eye(2, dtype=torch.double)[None]
TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.double)
MIRROR = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.double)


def warped(images, inverse, offset):
    n = len(images)
    inverse, offset = (torch.as_tensor(each, dtype=torch.double) for each in (inverse, offset))
    return warp(images, inverse.expand(n, 2, 2), offset.expand(n, 2), resampling(images.shape[-1], CPU))


def smooth(side):
    """Two images of few low frequencies, which hardly alias."""
    row, column = np.mgrid[:side, :side] * (np.pi / (side - 1))  # even at the borders, as their reflection is
    return np.stack([np.cos(row) * np.cos(2 * column), 0.3 + 0.5 * np.cos(3 * row) - 0.4 * np.cos(column)])


def test_filter_is_orthonormal():
    taps = np.array(SYM6)
    assert taps.sum() == pytest.approx(math.sqrt(2), abs=1e-11)
    for lag in range(0, 12, 2):
        assert taps[lag:] @ taps[: 12 - lag] == pytest.approx(1.0 if lag == 0 else 0.0, abs=1e-11)


@pytest.mark.parametrize("side", [2, 8, 9, 32])
def test_resampling_at_the_same_place_is_the_identity(side):
    images = torch.randn(3, 2, side, side, dtype=torch.double)
    torch.testing.assert_close(warped(images, IDENTITY, [0, 0]), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [7, 8])
def test_pixels_move_as_in_numpy(side):
    images = torch.randn(8, 2, side, side)
    turns = [torch.linalg.matrix_power(TURN, i) for i in range(4)]
    inverse = torch.stack([*turns, *(MIRROR @ turn for turn in turns)]).float()
    moved = move(images, inverse, torch.zeros(8, 2)).numpy()
    for n, (image, got) in enumerate(zip(images.numpy(), moved, strict=True)):
        mirrored = image[:, :, ::-1] if n > 3 else image
        np.testing.assert_array_equal(got, np.rot90(mirrored, -(n % 4), axes=(1, 2)))


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (3, 2)])
def test_shift_reflects_about_the_border_pixels(shift):
    images = torch.randn(2, 3, 8, 8)
    down, right = shift
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    expected = padded[:, :, 4 - down : 12 - down, 4 - right : 12 - right]
    moved = move(images, torch.eye(2).expand(2, 2, 2), torch.tensor(shift, dtype=torch.float).expand(2, 2))
    np.testing.assert_array_equal(moved.numpy(), expected)
    resampled = warped(images.double(), IDENTITY, [-down, -right])
    np.testing.assert_allclose(resampled.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("degrees", "scales", "offset"),
    [(0, (1, 1), (0.5, -1.3)), (30, (1, 1), (0, 0)), (-110, (0.9, 1.2), (2.2, -0.7)), (15, (0.6, 0.6), (0, 3.1))],
)
def test_warp_of_smooth_images_is_scipys(degrees, scales, offset):
    side, angle = 32, math.radians(degrees)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse, centre = rotation @ np.diag(scales), np.full(2, (side - 1) / 2)
    images = smooth(side)
    expected = [
        ndimage.affine_transform(image, inverse, centre + offset - inverse @ centre, order=5, mode="mirror")
        for image in images
    ]
    got = warped(torch.tensor(images)[None], torch.tensor(inverse)[None], offset)[0]
    np.testing.assert_allclose(got.numpy(), expected, atol=0.02)  # of images with a range of 2; bilinear on a fine grid
    assert np.abs(got.numpy() - images).max() > 0.05


def test_second_derivative_is_that_of_finite_differences():
    torch.manual_seed(0)
    images = torch.randn(1, 2, 3, 3, dtype=torch.double, requires_grad=True)
    inverse = torch.tensor([[[0.8, -0.5], [0.4, 1.1]]], dtype=torch.double)
    maps = resampling(3, CPU)

    def cubed(images):
        turned = move(images, TURN[None], torch.ones(1, 2, dtype=torch.double))
        return warp(turned, inverse, torch.full((1, 2), 0.3, dtype=torch.double), maps) ** 3

    assert torch.autograd.gradcheck(cubed, images)
    assert torch.autograd.gradgradcheck(cubed, images, fast_mode=True)
