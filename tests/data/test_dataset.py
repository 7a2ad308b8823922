"""Image data sets: the choice of real samples, and their names."""

import pytest
import torch

from mixgan_cli.data.dataset import name_of_files
from mixgan_cli.data.datasets.mnist import Digits
from tests.conftest import composed


def test_reals_are_a_repeatable_random_choice():
    dataset = Digits(8, False).load()
    assert torch.equal(dataset.reals(50, 1), dataset.reals(50, 1))
    assert not torch.equal(dataset.reals(297, 1), dataset.held_out.images_NCHW)  # all of them, but in random order
    assert not torch.equal(dataset.reals(50, 1), dataset.reals(50, 2))
    assert len(dataset.reals(10_000, 1)) == 297


@pytest.mark.parametrize(
    ("root", "name"),
    [("/a/photos", "photos"), ("photos.TAR.gz", "photos"), ("a/b/../c.npz", "c"), ("v1.5/", "v1.5"), ("/", "images"),
     ("/a/photos/train", "photos_train"), ("/train", "train"), ("my photos (1)", "my_photos_1"), ("größe", "größe"),
     ("cifar10.zip", "own_cifar10"), ("-x", "x"), ("x" * 99, "x" * 40), ("\udce9\n", "images"), (None, None)],
)  # fmt: skip
def test_own_set_is_called_by_its_folder_or_file(root, name):
    assert name_of_files(root) == name


def test_current_folder_gives_its_name(tmp_path, monkeypatch):
    (tmp_path / "shoes").mkdir()
    monkeypatch.chdir(tmp_path / "shoes")
    assert composed("data=folder", "data.root=.").data["name"] == "shoes"
    assert composed("data=folder", "data.root=.", "data.name=boots").data["name"] == "boots"
