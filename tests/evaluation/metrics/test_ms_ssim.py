import numpy as np
import pytest
import pytorch_msssim
import torch
from scipy.ndimage import convolve

from mixgan_cli.evaluation.metrics.ms_ssim import _pairs, _ssim, mean_ms_ssim, ms_ssim


def pictures(n, channels, size, noise=20.0):
    """Smooth images and noisy copies of them, 0…255."""
    coarse = torch.rand(n, channels, 8, 8) * 255
    first = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255)
    return first, (first + noise * torch.randn_like(first)).clamp(0, 255)


@pytest.mark.parametrize("noise", [5.0, 40.0, 200.0])
def test_similar_images_equal_the_reference(noise):
    """Grey ones: of colour images the package averages the products of the channels."""
    first, second = pictures(3, 1, 256, noise)
    expected = pytorch_msssim.ms_ssim(first, second, data_range=255, size_average=False)
    torch.testing.assert_close(ms_ssim(first, second), expected, atol=1e-4, rtol=0)


def test_unrelated_images_equal_the_reference():
    first, second = pictures(4, 1, 256)[0], pictures(4, 1, 256)[0]
    expected = pytorch_msssim.ms_ssim(first, second, data_range=255, size_average=False)
    torch.testing.assert_close(ms_ssim(first, second), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [8, 16, 28, 32, 64, 128])
def test_small_images(size):
    first, second = pictures(4, 3, size)
    values = ms_ssim(first, second)
    assert ((values > 0) & (values < 1)).all()
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(4))
    torch.testing.assert_close(ms_ssim(first, second), ms_ssim(second, first))


def by_the_formula(first, second):
    """MS-SSIM of two grey images, a window position at a time, the window and its sigma shrinking with the image."""
    result, x, y = 1.0, first.astype(float), second.astype(float)
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        size = min(11, *x.shape)
        at = np.arange(size) - (size - 1) / 2
        row = np.exp(-(at**2) / (2 * (1.5 * size / 11) ** 2))
        window = np.outer(row, row) / np.outer(row, row).sum()
        ssim, contrast = [], []
        for top, left in np.ndindex(x.shape[0] - size + 1, x.shape[1] - size + 1):
            a, b = (image[top : top + size, left : left + size] for image in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            contrast.append((2 * covariance + 58.5225) / (var_a + var_b + 58.5225))
            ssim.append((2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025) * contrast[-1])
        result *= max(np.mean(ssim if scale == 4 else contrast), 0) ** exponent
        if scale < 4:
            x, y = (convolve(image, np.full((2, 2), 0.25), mode="reflect")[::2, ::2] for image in (x, y))
    return result


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (28, 28), (21, 13), (1, 7)])
@pytest.mark.parametrize("noise", [20.0, 120.0])
def test_small_images_equal_the_formula(size, noise):
    """Also images whose sides are odd at some scale: their last row counts twice, as in SciPy's border "reflect"."""
    first, second = (images[..., : size[0], : size[1]] for images in pictures(2, 1, max(size), noise))
    expected = [by_the_formula(a[0].numpy(), b[0].numpy()) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(ms_ssim(first, second).numpy(), expected, atol=2e-4)


def test_channels_are_averaged_at_each_scale():
    """One channel equal and one inverted: the mean of their terms counts, not the mean of their products."""
    first = pictures(1, 2, 32)[0]
    second = torch.cat((first[:, :1], 255 - first[:, 1:]), dim=1)
    expected, x, y = 1.0, first, second
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        ssim, contrast = zip(*(_ssim(x[:, c : c + 1], y[:, c : c + 1]) for c in (0, 1)), strict=True)
        expected *= max(np.mean(ssim if scale == 4 else contrast), 0) ** exponent
        x, y = (images.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)) for images in (x, y))
    assert ms_ssim(first, second).item() == pytest.approx(expected, rel=1e-4) and expected > 0


def test_constant_images_are_similar_and_noise_is_not():
    constant, noise = torch.full((8, 1, 32, 32), 77, dtype=torch.uint8), torch.rand(400, 1, 64, 64) * 255
    assert mean_ms_ssim(constant, "disjoint")[0] == pytest.approx(1)
    assert mean_ms_ssim(noise, "disjoint")[0] < 0.05


def test_pairings():
    assert [p.tolist() for p in _pairs(5, "disjoint")] == [[0, 2], [1, 3]]
    first, second = _pairs(150, "all")
    assert len(first) == 2 * 64 * 63 // 2
    assert ((first // 64) == (second // 64)).all() and (first < second).all()
    assert len(_pairs(10, "all")[0]) == 45
    with pytest.raises(ValueError, match="takes two images"):
        _pairs(1, "disjoint")


def test_mean_is_over_the_pairs():
    images = (torch.rand(7, 3, 32, 32) * 255).to(torch.uint8)
    by_hand = [ms_ssim(images[i : i + 1], images[j : j + 1]).item() for i in range(7) for j in range(i + 1, 7)]
    value, pairs = mean_ms_ssim(images, "all")
    assert pairs == 21 and value == pytest.approx(sum(by_hand) / 21, rel=1e-5)
