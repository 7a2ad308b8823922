from itertools import pairwise

import pytest
import torch

from mixgan_cli.data import batches
from mixgan_cli.data.batches import BLOCK, Flipped, PackedBatches
from mixgan_cli.data.packed import Packed

CPU = torch.device("cpu")
LEFT = torch.tensor([[1.0, 0.0, -1.0], [1.0, 0.5, -1.0]])
"""An image whose mirror image is another."""


class Same:
    """The same image each time, once in each of two channels."""

    def get_batch(self, nimg, batch):
        return LEFT.expand(batch, 2, 2, 3)


def mirrored(batches, nimg, batch):
    """Which are mirrored; each must be the image or its mirror image, in every channel and row."""
    images = batches.get_batch(nimg, batch)
    assert images.shape == (batch, 2, 2, 3)
    right = torch.stack([LEFT[:, 2], LEFT[:, 1], LEFT[:, 0]], dim=1)
    told = []
    for image in images:
        same, other = [all(torch.equal(channel, kind) for channel in image) for kind in (LEFT, right)]
        assert same != other
        told.append(other)
    return told


def test_half_of_the_images_are_mirrored():
    share = sum(mirrored(Flipped(Same(), 0, CPU), 0, 4000)) / 4000
    assert 0.46 < share < 0.54  # five standard deviations


def test_neighbours_are_mirrored_independently():
    told = mirrored(Flipped(Same(), 0, CPU), 0, 4000)
    alike = sum(first == second for first, second in pairwise(told)) / 3999
    assert 0.46 < alike < 0.54


def test_seeds_mirror_other_images():
    first, again, other = [mirrored(Flipped(Same(), seed, CPU), 0, 400) for seed in (0, 0, 1)]
    assert first == again and 100 < sum(a != b for a, b in zip(first, other, strict=True)) < 300


def test_epochs_mirror_other_images():
    """An image is not mirrored for good: the number of the image shown decides, not which one it is."""
    packed = Packed(torch.arange(600, dtype=torch.int64).remainder(256).to(torch.uint8).view(50, 3, 2, 2), None, "x")
    plain, batches = PackedBatches(packed, None, CPU), Flipped(PackedBatches(packed, None, CPU), 0, CPU)
    changed = [(batches.get_batch(50 * e, 50) != plain.get_batch(50 * e, 50)).flatten(1).any(1) for e in range(2)]
    assert 5 < (changed[0] != changed[1]).sum() < 45


@pytest.mark.parametrize("block", [BLOCK, 16])
def test_the_number_of_the_image_decides_whatever_the_batches(block, monkeypatch):
    """What a resumed run, or one with another batch size, is shown; with small blocks, across their borders."""
    monkeypatch.setattr(batches, "BLOCK", block)
    steady = Flipped(Same(), 0, CPU)
    whole = [flip for nimg in range(0, 120, 3) for flip in mirrored(steady, nimg, 3)]
    assert mirrored(Flipped(Same(), 0, CPU), 0, 120) == whole
    assert mirrored(Flipped(Same(), 0, CPU), 37, 83) == whole[37:]
    assert mirrored(steady, 0, 5) == whole[:5]  # and back


def test_blocks_are_tossed_anew(monkeypatch):
    monkeypatch.setattr(batches, "BLOCK", 32)
    whole = mirrored(Flipped(Same(), 0, CPU), 0, 96)
    assert len({tuple(whole[start : start + 32]) for start in (0, 32, 64)}) == 3


def test_the_loops_random_state_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Flipped(Same(), 0, CPU).get_batch(0, 8)
    assert torch.equal(torch.rand(3), expected)
