"""Packed sets: subsets without copies, and checksums."""

import torch

from mixgan_cli.data.datasets.mnist import Digits
from mixgan_cli.data.packed import Packed, checksum

IMAGES = torch.randint(0, 256, (70, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_subset_is_not_copied_until_it_is_used():
    packed = Packed(IMAGES, torch.arange(70) % 5, "as they are").subset(torch.tensor([5, 3, 60]))
    assert packed.stored_MCHW.shape[0] == 70 and len(packed) == 3 and packed.nbytes == 3 * 48
    assert torch.equal(packed.images_NCHW, IMAGES[[5, 3, 60]]) and packed.labels_N.tolist() == [0, 3, 0]
    assert torch.equal(packed.subset(torch.tensor([2, 0])).images_NCHW, IMAGES[[60, 5]])
    assert packed.checksum == checksum(IMAGES[[5, 3, 60]]) == Packed(IMAGES[[5, 3, 60]], None, "").checksum
    assert torch.equal(packed.in_memory().images_NCHW, IMAGES[[5, 3, 60]])


def test_checksums_differ_between_sets():
    first, second = Digits(8, False).load(), Digits(16, False).load()
    assert first.train.checksum == Digits(8, False).load().train.checksum
    assert len({first.train.checksum, first.held_out.checksum, second.train.checksum}) == 3
