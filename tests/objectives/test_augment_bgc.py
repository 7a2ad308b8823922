"""StyleGAN2-ADA's pipeline: shares of images that it leaves alone, colours by hand, derivatives, configuration."""

import math

import numpy as np
import pytest
import torch

from mixgan_cli.config.components import build
from mixgan_cli.errors import ConfigError
from mixgan_cli.objectives.augment_bgc import TRANSFORMATIONS
from tests.conftest import composed

NAMES = tuple(dict.fromkeys(TRANSFORMATIONS))


def pipeline(choice="bgc", **changes):
    return build({**composed(f"objective/augment={choice}").objective.augment, **changes})


def alone(*names, p=1.0):
    """Return a pipeline in which only these transformations are applied, always."""
    return pipeline(p=p, **{name: float(name in names) for name in NAMES})


def untouched(augment, p):
    """Return the share of images to which nothing happens, from the probabilities that the pipeline itself uses."""
    # a fair coin keeps half of the mirrored and of the negated, one of four turns is by 0°
    changes = {"xflip": 1 / 2, "lumaflip": 1 / 2, "rotate90": 3 / 4}
    fires = augment.probabilities(torch.tensor(p)).tolist()
    return math.prod(1 - fire * changes.get(name, 1) for name, fire in zip(TRANSFORMATIONS, fires, strict=True))


SHARES = [
    ("bgc", 0.1, 0.323), ("bgc", 0.2, 0.0924), ("bgc", 0.3, 0.0226), ("bgc", 0.5, 0.00069),
    ("r3gan", 0.3, 0.037), ("r3gan", 0.5, 0.0020), ("r3gan", 0.55, 0.00084),
]  # fmt: skip
"""Of images left untouched, as the spec of both sources has them."""


@pytest.mark.parametrize(("choice", "p", "share"), SHARES)
def test_share_of_untouched_images(choice, p, share):
    assert untouched(pipeline(choice), p) == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize(("choice", "p"), [("bgc", 0.1), ("bgc", 0.2), ("bgc", 0.3), ("r3gan", 0.3)])
def test_drawn_images_are_untouched_as_often(choice, p):
    """4,000 images; five standard deviations. Of shifts at 8 pixels half are by none along an axis."""
    torch.manual_seed(0)
    augment = pipeline(choice, p=p)
    images = torch.rand(1, 3, 8, 8).expand(4000, 3, 8, 8)
    seen = (augment(images) == images).flatten(1).all(dim=1).double().mean().item()
    fires = augment.probabilities(torch.tensor(p))[TRANSFORMATIONS.index("xint")].item()
    expected = untouched(augment, p) * (1 - 3 / 4 * fires) / (1 - fires)
    assert seen == pytest.approx(expected, abs=5 * (expected * (1 - expected) / 4000) ** 0.5)


@pytest.mark.parametrize("choice", ["bgc", "r3gan", "ada"])
@pytest.mark.parametrize("channels", [1, 3])
def test_without_probability_it_is_the_identity(choice, channels):
    images = torch.randn(16, channels, 8, 8)
    assert torch.equal(pipeline(choice, p=0.0)(images), images)
    scheduled = pipeline(choice, p=0.5, target=None)(images, torch.tensor(0.0))
    assert torch.equal(scheduled, images)


def test_share_of_mirrored_images_is_half_of_p():
    torch.manual_seed(0)
    images = torch.rand(1, 1, 2, 2).expand(10_000, 1, 2, 2)
    augmented = alone("xflip", p=0.6)(images)
    mirrored = (augmented == images.flip(3)).flatten(1).all(dim=1)
    assert mirrored.float().mean().item() == pytest.approx(0.3, abs=0.023)  # five standard deviations
    assert torch.equal(augmented[~mirrored], images[~mirrored])


def test_turns_by_right_angles_are_equally_frequent():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 5, 5)
    augmented = alone("rotate90")(image.expand(4000, 1, 5, 5))
    shares = [(augmented == image.rot90(i, (2, 3))).flatten(1).all(dim=1).float().mean().item() for i in range(4)]
    assert sum(shares) == pytest.approx(1) and shares == pytest.approx([0.25] * 4, abs=0.035)


def test_rotation_before_or_after_has_probability_p():
    before, after = (alone("rotate").probabilities(torch.tensor(p))[4].item() for p in (0.1, 0.5))
    assert (before, after) == pytest.approx((0.0513, 0.2929), abs=5e-5)
    assert alone("rotate").probabilities(torch.tensor(1.7))[6].item() == 1


V = np.full(3, 1 / math.sqrt(3))


def homogeneous(matrix, offset=0.0):
    return np.block([[matrix, np.full((3, 1), offset)], [np.zeros((1, 3)), np.ones((1, 1))]])


def test_colours_are_the_product_of_the_five_matrices(double):
    """Brightness, contrast, luma flip, hue (Rodrigues' formula) and saturation as 4×4 matrices, one by one."""
    torch.manual_seed(1)
    images, coins, numbers = torch.randn(20, 3, 2, 2), torch.rand(20, 2), torch.randn(20, 3)
    got = pipeline()._colour(images, torch.ones(20, 5, dtype=torch.bool), coins, numbers).numpy()
    cross = np.array([[0, -V[2], V[1]], [V[2], 0, -V[0]], [-V[1], V[0], 0]])
    for image, (coin, angle), (added, contrast, saturation), seen in zip(
        images.numpy(), coins.numpy(), numbers.numpy(), got, strict=True
    ):
        angle, grey = math.pi * (2 * angle - 1), np.outer(V, V)
        hue = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
        total = homogeneous(grey + (np.eye(3) - grey) * 2**saturation) @ homogeneous(hue)
        total = total @ homogeneous(np.eye(3) - 2 * grey * (coin < 0.5)) @ homogeneous(np.eye(3) * 2 ** (contrast / 2))
        total = total @ homogeneous(np.eye(3), 0.2 * added)
        pixels = np.vstack([image.reshape(3, -1), np.ones((1, 4))])
        np.testing.assert_allclose(seen.reshape(3, -1), (total @ pixels)[:3], atol=1e-6)


def test_colours_of_grey_images_follow_the_mean_row(double):
    torch.manual_seed(1)
    images, coins, numbers = torch.randn(20, 1, 2, 2), torch.rand(20, 2), torch.randn(20, 3)
    fires = torch.ones(20, 5, dtype=torch.bool)
    got = pipeline()._colour(images, fires, coins, numbers)
    of_three = pipeline()._colour(images.expand(-1, 3, -1, -1), fires, coins, numbers)
    torch.testing.assert_close(got, of_three.mean(dim=1, keepdim=True), rtol=0, atol=1e-6)
    fires[:, :3] = False
    assert torch.equal(pipeline()._colour(images, fires, coins, numbers), images)


def test_random_strengths_have_the_papers_deviations():
    torch.manual_seed(0)
    grey = torch.ones(2500, 1, 2, 2)
    assert (alone("brightness")(grey)[:, 0, 0, 0] - 1).std().item() == pytest.approx(0.2, rel=0.07)
    assert alone("contrast")(grey)[:, 0, 0, 0].log2().std().item() == pytest.approx(0.5, rel=0.07)
    assert alone("lumaflip")(grey)[:, 0, 0, 0].mean().item() == pytest.approx(0, abs=0.1)
    red = torch.tensor([1.0, -0.5, -0.5]).view(1, 3, 1, 1).expand(2500, 3, 2, 2)
    assert alone("saturation")(red)[:, 0, 0, 0].log2().std().item() == pytest.approx(1.0, rel=0.07)
    turned = alone("hue")(red)[:, :, 0, 0]
    torch.testing.assert_close(turned.norm(dim=1), red[:, :, 0, 0].norm(dim=1))
    assert turned.mean(dim=0).abs().max() < 0.09 and turned.sum(dim=1).abs().max() < 1e-5


def slope(name, along):
    """Scale and shift [n] along an axis, read off an image whose value is the position there."""
    torch.manual_seed(0)
    position = torch.arange(32.0) - 15.5
    image = position.view(1, 1, -1, 1) if along == 2 else position.view(1, 1, 1, -1)
    middle = alone(name)(image.expand(400, 1, 32, 32))[:, 0, 14:18, 14:18]
    steps = middle.diff(dim=along - 1).mean(dim=(1, 2))
    return steps, middle.mean(dim=(1, 2))


@pytest.mark.parametrize(("name", "rows", "columns"), [("scale", 0.2, 0.2), ("aniso", 0.2, 0.2)])
def test_scales_have_the_papers_deviations(name, rows, columns):
    down, _ = slope(name, 2)
    right, _ = slope(name, 3)
    assert down.log2().std().item() == pytest.approx(rows, rel=0.15)
    assert right.log2().std().item() == pytest.approx(columns, rel=0.15)
    sign = {"scale": 1, "aniso": -1}[name]  # the same seed
    torch.testing.assert_close(down.log2(), sign * right.log2(), rtol=0, atol=0.02)


@pytest.mark.parametrize("axis", [2, 3])
def test_shifts_have_the_papers_ranges(axis):
    _, whole = slope("xint", axis)
    torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-5)
    assert whole.abs().max() == 4 and whole.std().item() == pytest.approx((64 / 12 + 1 / 12) ** 0.5, rel=0.12)
    _, fraction = slope("xfrac", axis)
    near = fraction[fraction.abs() < 8]  # others see the reflection
    assert near.std().item() == pytest.approx(3.5, rel=0.15)  # N(0, 4²), cut at two deviations: 0.88 of it


def test_cutout_sets_a_square_of_half_the_side_to_zero():
    torch.manual_seed(0)
    holes = alone("cutout")(torch.ones(1000, 1, 16, 16))[:, 0] == 0
    rows, columns = holes.any(dim=2), holes.any(dim=1)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(dim=1).max() == 8 and rows.sum(dim=1).min() == 4
    # the mean height: over centres c in (0, 1), of min(c + 1/4, 1) - max(c - 1/4, 0) is 7/16
    assert rows.sum(dim=1).float().mean().item() == pytest.approx(7, abs=0.25)


def test_second_derivative_through_all_transformations(double):
    images = torch.randn(2, 3, 3, 3, requires_grad=True)
    augment = pipeline("r3gan", p=1.0)

    def squared(images):
        torch.manual_seed(4)
        return augment(images) ** 2

    assert torch.autograd.gradcheck(squared, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(squared, images, fast_mode=True)
    (gradient,) = torch.autograd.grad(squared(images).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert second.isfinite().all() and second.abs().max() > 0


def test_images_in_bfloat16_are_augmented_in_float32():
    images, augment = torch.rand(8, 3, 8, 8).bfloat16(), pipeline(p=1.0)
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16):
        half = augment(images)
    torch.manual_seed(2)
    assert half.dtype == torch.float32 and torch.equal(half, augment(images.float()))


def test_pipelines_have_the_papers_multipliers():
    bgc, r3gan = (composed(f"objective/augment={name}").objective.augment for name in ("bgc", "r3gan"))
    colours = {"brightness", "contrast", "lumaflip", "hue", "saturation"}
    assert {name: bgc[name] for name in NAMES} == {**dict.fromkeys(NAMES, 1.0), "cutout": 0.0}
    assert {name: r3gan[name] for name in NAMES} == {name: 0.5 if name in colours else 1.0 for name in NAMES}


@pytest.mark.parametrize("wrong", ["p=1.5", "xflip=-1", "target=1", "every=0"])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
        composed("objective=non_saturating", "objective/augment=ada", f"objective.augment.{wrong}")
