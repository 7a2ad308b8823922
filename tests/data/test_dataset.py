"""Image data sets: the choice of real samples."""

import torch

from mixgan_cli.data.datasets.mnist import Digits


def test_reals_are_a_repeatable_random_choice():
    dataset = Digits(8, False).load()
    assert torch.equal(dataset.reals(50, 1), dataset.reals(50, 1))
    assert not torch.equal(dataset.reals(297, 1), dataset.held_out.images_NCHW)  # all of them, but in random order
    assert not torch.equal(dataset.reals(50, 1), dataset.reals(50, 2))
    assert len(dataset.reals(10_000, 1)) == 297
