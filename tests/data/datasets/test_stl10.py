"""STL-10, on a small copy."""

import tarfile

import numpy as np
import pytest

from mixgan_cli.data.datasets.stl10 import STL10
from mixgan_cli.errors import DataError


@pytest.fixture
def stl10(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, n in (("unlabeled_X.bin", 7), ("train_X.bin", 2), ("test_X.bin", 3)):
        images = generator.integers(0, 256, (n, 3, 96, 96), dtype=np.uint8)
        np.save(tmp_path / f"{name}.npy", images)
        (folder / name).write_bytes(images.transpose(0, 1, 3, 2).tobytes())  # down each column first
    (folder / "test_y.bin").write_bytes(bytes([1, 10, 3]))
    return folder


def test_folder_and_tar_give_the_same_images(stl10, tmp_path):
    dataset = STL10(str(stl10), 96, labels=True).load()
    np.testing.assert_array_equal(dataset.train.images_NCHW, np.load(tmp_path / "unlabeled_X.bin.npy"))
    np.testing.assert_array_equal(dataset.held_out.images_NCHW, np.load(tmp_path / "test_X.bin.npy"))
    assert dataset.train.labels_N is None and dataset.held_out.labels_N.tolist() == [0, 9, 2]
    with tarfile.open(tmp_path / "stl10_binary.tar.gz", "w:gz") as archive:
        archive.add(stl10, "stl10_binary")
    from_tar = STL10(str(tmp_path / "stl10_binary.tar.gz"), 96, labels=True).load()
    assert from_tar.train.checksum == dataset.train.checksum


@pytest.mark.parametrize("size", [32, 48, 64])
def test_images_are_resized(stl10, size):
    assert STL10(str(stl10), size, labels=False).load().train.images_NCHW.shape == (7, 3, size, size)


def test_truncated_file_is_named(stl10):
    path = stl10 / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"unlabeled_X\.bin: truncated or damaged"):
        STL10(str(stl10), 48, labels=False).load()


def test_too_long_file_is_not_read_to_its_end(stl10, monkeypatch):
    """The file has seven images and at most five are allowed; two are read at a time."""
    monkeypatch.setattr("mixgan_cli.data.datasets.stl10.MAX_IMAGES", 5)
    monkeypatch.setattr("mixgan_cli.data.datasets.stl10.READ_IMAGES", 2)
    with pytest.raises(DataError, match=r"unlabeled_X\.bin: truncated or damaged"):
        STL10(str(stl10), 96, labels=True).load()
