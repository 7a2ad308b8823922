"""What is checked before the first iteration."""

import pytest
import torch

from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.packed import Packed
from mixgan_cli.training.setup import check_and_build, check_training_set
from tests.conftest import composed
from tests.training.test_gpu import ALIKE, ON_GPU


def test_equal_training_images_are_reported(caplog):
    for images, equal in (
        (torch.full((9, 1, 4, 4), 7), True),
        (torch.arange(9)[:, None, None, None].expand(9, 1, 4, 4), False),
    ):
        caplog.clear()
        packed = Packed(images.to(torch.uint8), None, "as they are")
        check_training_set(ImageDataset(packed, packed), batch=4)
        assert ("9 random training images are all equal" in caplog.text) is equal


@pytest.mark.parametrize("name", ALIKE)
def test_settings_of_the_tests_on_a_gpu_are_valid(name):
    """Those tests seldom run, so their settings are checked here."""
    assert check_and_build(composed(*ON_GPU, *ALIKE[name], "hardware=gpu"), (1, 8, 8))
