"""DiffAugment: each operation against a loop over images and pixels with the same numbers, and by what it keeps."""

import numpy as np
import pytest
import torch

from mixgan_cli.config import components
from mixgan_cli.errors import ConfigError
from mixgan_cli.objectives.augment import DiffAugment, brightness, contrast, cutout, saturation, translation
from tests.conftest import composed

N, CHANNELS, ROWS, COLUMNS = 40, 3, 8, 11


@pytest.fixture
def images():
    return torch.rand(N, CHANNELS, ROWS, COLUMNS).double() * 2 - 1


def seeded(operation, *arguments):
    torch.manual_seed(5)
    return operation(*arguments)


def uniform():
    return torch.rand(N).numpy()


def within(least, most):
    return torch.randint(least, most + 1, (N,)).tolist()


def test_brightness(images):
    drawn = seeded(uniform)
    expected = np.stack([image + (u - 0.5) for image, u in zip(images.numpy(), drawn, strict=True)])
    np.testing.assert_allclose(seeded(brightness, images).numpy(), expected, atol=1e-7)


def test_saturation(images):
    drawn, expected = seeded(uniform), images.numpy().copy()
    for n, row, column in np.ndindex(N, ROWS, COLUMNS):
        pixel = images[n, :, row, column].numpy()
        expected[n, :, row, column] = (pixel - pixel.mean()) * (2 * drawn[n]) + pixel.mean()
    np.testing.assert_allclose(seeded(saturation, images).numpy(), expected, atol=1e-7)


def test_contrast(images):
    drawn = seeded(uniform)
    expected = [(x - x.mean()) * (u + 0.5) + x.mean() for x, u in zip(images.numpy(), drawn, strict=True)]
    np.testing.assert_allclose(seeded(contrast, images).numpy(), np.stack(expected), atol=1e-7)


@pytest.mark.parametrize(
    ("share", "most"), [(0.125, (1, 1)), (0.25, (2, 3)), (1.0, (8, 11)), (0.05, (0, 1)), (0.0625, (1, 1))]
)
def test_translation(images, share, most):
    down, right = seeded(lambda: (within(-most[0], most[0]), within(-most[1], most[1])))
    expected = np.zeros(images.shape)
    for n, row, column in np.ndindex(N, ROWS, COLUMNS):
        there = (row + down[n], column + right[n])
        if 0 <= there[0] < ROWS and 0 <= there[1] < COLUMNS:
            expected[n, :, there[0], there[1]] = images[n, :, row, column]
    np.testing.assert_array_equal(seeded(translation, images, share).numpy(), expected)


@pytest.mark.parametrize(("share", "sides"), [(0.5, (4, 6)), (0.375, (3, 4)), (1.0, (8, 11)), (0.01, (0, 0))])
def test_cutout(images, share, sides):
    """Of an even side the centre is one of the size + 1 borders between pixels, of an odd one a pixel."""
    borders = [1 - side % 2 for side in sides]
    centres = seeded(lambda: (within(0, ROWS - 1 + borders[0]), within(0, COLUMNS - 1 + borders[1])))
    expected = images.numpy().copy()
    for n, row, column in np.ndindex(N, ROWS, COLUMNS):
        half = [side / 2 for side in sides]
        away = [
            abs(pixel + 0.5 - (centre[n] + (0 if border else 0.5)))
            for pixel, centre, border in zip((row, column), centres, borders, strict=True)
        ]
        if away[0] < half[0] and away[1] < half[1]:
            expected[n, :, row, column] = 0
    np.testing.assert_array_equal(seeded(cutout, images, share).numpy(), expected)


def test_random_strengths_have_the_papers_ranges():
    """Read off images of a left half at -1 and a right half at +1, in the red channel alone."""
    images = torch.zeros(4000, 3, 2, 2)
    images[:, 0, :, 0], images[:, 0, :, 1] = -1, 1
    red = saturation(images)[:, 0, 0, 1]  # its grey is 1/3, and it is 2/3 above that
    for drawn, low, high in [
        (brightness(images)[:, 1, 0, 0], -0.5, 0.5),
        ((red - 1 / 3) * 1.5, 0, 2),
        (contrast(images)[:, 0, 0, 1], 0.5, 1.5),
    ]:
        width = high - low
        assert low - 1e-5 <= drawn.min() < low + 0.01 * width and high - 0.01 * width < drawn.max() <= high + 1e-5
        assert drawn.mean().item() == pytest.approx((low + high) / 2, abs=0.025 * width)
        assert drawn.std().item() == pytest.approx(width / 12**0.5, rel=0.05)


def test_every_shift_is_as_frequent():
    """A single bright pixel tells the shift: 5 × 5 of them, along either axis independently."""
    images = torch.zeros(5000, 1, 16, 16)
    images[:, 0, 8, 8] = 1
    moved = translation(images, 0.125)
    assert (moved.flatten(1).sum(1) == 1).all()
    place = moved.flatten(1).argmax(1)
    down, right = place // 16 - 8, place % 16 - 8
    assert down.abs().max() == right.abs().max() == 2
    counts = torch.bincount((down + 2) * 5 + right + 2, minlength=25)
    assert counts.min() > 130 and counts.max() < 270  # 200 expected; five standard deviations


def test_cutout_zeroes_one_square_at_a_random_place():
    holes = cutout(torch.ones(20_000, 2, 8, 8), 0.5) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])  # the same in every channel
    rows, columns = holes[:, 0].any(2), holes[:, 0].any(1)
    assert torch.equal(holes[:, 0], rows[:, :, None] & columns[:, None, :])
    first, last = rows.int().argmax(1), 7 - rows.flip(1).int().argmax(1)
    assert torch.equal(rows.sum(1), last - first + 1)  # without a gap
    areas = holes[:, 0].sum((1, 2))
    assert areas.max() == 16 and areas.min() == 4  # half the side inside the image; a quarter of it in a corner
    # 9 × 9 centres; all of the 5 × 5 at least half a hole from the border leave the hole whole
    assert (areas == 16).float().mean().item() == pytest.approx(25 / 81, abs=0.02)
    # the mean height of 9: 2, 3, 4, 4, 4, 4, 4, 3, 2
    assert rows.sum(1).float().mean().item() == pytest.approx(30 / 9, abs=0.03)
    assert columns.sum(1).float().mean().item() == pytest.approx(30 / 9, abs=0.03)


def test_grey_images_have_no_saturation():
    grey = torch.rand(N, 1, ROWS, COLUMNS).expand(N, CHANNELS, ROWS, COLUMNS)
    torch.testing.assert_close(saturation(grey), grey)
    torch.testing.assert_close(saturation(grey[:, :1]), grey[:, :1])


def test_saturation_and_contrast_keep_the_mean(images):
    torch.testing.assert_close(saturation(images).mean(1), images.mean(1))
    torch.testing.assert_close(contrast(images).mean((1, 2, 3)), images.mean((1, 2, 3)))
    assert not torch.allclose(contrast(images).mean(1), images.mean(1))


FULL = {"color": True, "translation": 0.125, "cutout": 0.5}
OFF = {"color": False, "translation": 0.0, "cutout": 0.0}


def test_diffaugment_applies_its_parts_in_order(images):
    torch.manual_seed(5)
    expected = cutout(translation(contrast(saturation(brightness(images))), 0.125), 0.5)
    assert torch.equal(seeded(DiffAugment(**FULL), images), expected)


@pytest.mark.parametrize("part", [{"color": True}, {"translation": 0.25}, {"cutout": 0.5}])
def test_each_part_can_be_used_alone(part, images):
    alone = {
        "color": lambda: contrast(saturation(brightness(images))),
        "translation": lambda: translation(images, 0.25),
        "cutout": lambda: cutout(images, 0.5),
    }
    ((name, _),) = part.items()
    assert torch.equal(seeded(DiffAugment(**{**OFF, **part}), images), seeded(alone[name]))


def test_diffaugment_without_parts_is_the_identity(images):
    expected = seeded(uniform)
    torch.manual_seed(5)
    assert torch.equal(DiffAugment(**OFF)(images), images)
    assert (uniform() == expected).all()


def test_equal_images_are_augmented_differently():
    images = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16).expand(8, -1, -1, -1)
    augmented = DiffAugment(**FULL)(images)
    assert len({tuple(image.flatten().tolist()) for image in augmented}) == 8


def test_gradient_equals_finite_differences():
    images = torch.randn(3, 2, 5, 4, dtype=torch.double, requires_grad=True)
    augment = DiffAugment(color=True, translation=0.25, cutout=0.5)
    assert torch.autograd.gradcheck(lambda x: seeded(augment, x), images)
    assert torch.autograd.gradgradcheck(lambda x: seeded(augment, x), images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_number_formats_of_training(dtype):
    images = (torch.rand(4, 3, 16, 16) * 2 - 1).to(dtype)
    augmented, exact = [seeded(DiffAugment(**FULL), x) for x in (images, images.double())]
    assert augmented.dtype == torch.float32 and augmented.shape == images.shape
    torch.testing.assert_close(augmented.double(), exact, rtol=0, atol=0.03 if dtype == torch.bfloat16 else 1e-5)


def test_diffaugment_has_the_papers_settings():
    augment = components.build(composed("objective/augment=diffaugment").objective.augment)
    assert isinstance(augment, DiffAugment)
    assert (augment.color, augment.translation, augment.cutout) == (True, 0.125, 0.5)
    assert composed().objective.augment is None


@pytest.mark.parametrize("model", ["gan", "madgan", "megan"])
def test_diffaugment_composes_with_every_model(model):
    run = composed(f"model={model}", "objective/augment=diffaugment", "objective.augment.cutout=0")
    assert run.objective.augment["cutout"] == 0 and run.objective.augment["color"] is True


@pytest.mark.parametrize("share", ["translation=1.5", "cutout=-0.1", "color=much"])
def test_invalid_strengths_are_refused(share):
    name, _, _ = share.partition("=")
    with pytest.raises(ConfigError, match=name):
        composed("objective/augment=diffaugment", f"objective.augment.{share}")
