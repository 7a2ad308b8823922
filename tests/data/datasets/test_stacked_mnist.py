"""Stacked MNIST from a small copy of MNIST."""

import numpy as np
import pytest
import torch

from mixgan_cli.data.datasets.stacked_mnist import StackedMNIST
from mixgan_cli.runtime.random import fork_seed
from tests.data.make import write_idx

CPU = torch.device("cpu")
N = {"train": 40, "t10k": 20}


@pytest.fixture
def small_mnist(tmp_path):
    """Digits of one grey level each: digit i of the training set has level i, of the test set 200 + i."""
    for part, first in (("train", 0), ("t10k", 200)):
        levels = np.arange(first, first + N[part], dtype=np.uint8)
        images = np.broadcast_to(levels[:, None, None], (N[part], 28, 28)).copy()
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", (levels % 10).astype(np.uint8))
    return str(tmp_path)


def levels(images_NCHW):
    """The grey level of each channel [N, 3], of images in [-1, 1]."""
    return ((images_NCHW[:, :, 0, 0] + 1) * 127.5).round().long()


def test_channels_are_independent_digits_of_the_training_set(small_mnist):
    source = StackedMNIST(small_mnist, 28)
    with fork_seed("test"):
        images = source.load().batches(0, CPU).get_batch(0, 30_000)
    assert images.shape == (30_000, *source.shape) and images.dtype == torch.float32
    found = levels(images)
    assert found.min() == 0 and found.max() == N["train"] - 1
    shares = torch.stack([torch.bincount(channel, minlength=40) for channel in found.T]) / len(found)
    assert (shares - 1 / 40).abs().max() < 0.005  # five standard deviations
    assert torch.corrcoef(found.T.double()).triu(1).abs().max() < 0.03


@pytest.mark.parametrize(("digits", "highest"), [("train", 39), ("all", 219)])
def test_fixed_set_is_the_same_in_every_run(small_mnist, digits, highest):
    first, second = (StackedMNIST(small_mnist, 28, n=500, digits=digits).load().batches(3, CPU) for _ in range(2))
    shown = first.get_batch(0, 500)
    assert torch.equal(shown, second.get_batch(0, 500))
    assert levels(shown).max() == highest
    again = first.get_batch(500, 500)  # the next epoch: the same images in another order
    assert not torch.equal(shown, again)
    assert sorted(map(tuple, levels(shown).tolist())) == sorted(map(tuple, levels(again).tolist()))


def test_evaluation_stacks_test_digits(small_mnist):
    dataset = StackedMNIST(small_mnist, 16, digits="all").load()
    held_out, train = dataset.reals(200, 0), dataset.reals(200, 0, "train")
    assert held_out.shape == (200, 3, 16, 16) and held_out.dtype == torch.uint8
    assert held_out.min() == 200 and train.max() < 40
    assert torch.equal(held_out, dataset.reals(200, 0)) and not torch.equal(held_out, dataset.reals(200, 1))


def test_protocol_distinguishes_sets(small_mnist):
    sources = [StackedMNIST(small_mnist, 28), StackedMNIST(small_mnist, 28, 100), StackedMNIST(small_mnist, 28, 200),
               StackedMNIST(small_mnist, 28, 100, "all"), StackedMNIST(small_mnist, 16)]  # fmt: skip
    described = [str(source.load().describe()) for source in sources]
    assert len(set(described)) == len(described)
