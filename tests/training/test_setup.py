"""What is checked before the first iteration."""

import torch

from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.packed import Packed
from mixgan_cli.training.setup import check_training_set


def test_equal_training_images_are_reported(caplog):
    for images, equal in (
        (torch.full((9, 1, 4, 4), 7), True),
        (torch.arange(9)[:, None, None, None].expand(9, 1, 4, 4), False),
    ):
        caplog.clear()
        packed = Packed(images.to(torch.uint8), None, "as they are")
        check_training_set(ImageDataset(packed, packed), batch=4)
        assert ("9 random training images are all equal" in caplog.text) is equal
