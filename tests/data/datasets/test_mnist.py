"""Digits, MNIST and Fashion-MNIST."""

import zipfile

import numpy as np
import pytest
import torch

from mixgan_cli.data.datasets.mnist import MNIST, Digits, FashionMNIST
from mixgan_cli.data.locate import RemoteFile
from mixgan_cli.errors import DataError
from mixgan_cli.evaluation.metrics.knn import two_sample_test
from tests.conftest import real_folder
from tests.data.make import gzipped, write_idx

RANDOM = np.random.default_rng(0)

CONTENT = {
    part: (RANDOM.integers(0, 256, (n, 28, 28), dtype=np.uint8), RANDOM.integers(0, 10, (n,), dtype=np.uint8))
    for part, n in (("train", 20), ("t10k", 5))
}


@pytest.fixture
def small_mnist(tmp_path):
    for part, (images, labels) in CONTENT.items():
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-images-idx3-ubyte", images)
        write_idx(tmp_path / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte", labels)
    return tmp_path


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_split_and_sizes(size):
    dataset = Digits(size, labels=True).load()
    assert (len(dataset.train), len(dataset.held_out)) == (1500, 297)
    assert dataset.train.images_NCHW.shape == (1500, 1, size, size) and dataset.train.labels_N.max() == 9


def test_digits_are_held_out_at_random():
    """Real digits must be able to reach the ideal of the 5-NN test. The last ones are of other writers."""
    random, last = Digits(8, True, split_seed=0).load(), Digits(8, True, split_seed=None).load()
    everything = [torch.cat((each.train.images_NCHW, each.held_out.images_NCHW)) for each in (random, last)]
    assert len(random.held_out) == 297
    assert torch.equal(*(images.flatten(1).float().sum(1).sort().values for images in everything))
    share_of_real = []
    for each in (random, last):
        real, other = each.train.images_NCHW[::5].flatten(1).float(), each.held_out.images_NCHW.flatten(1).float()
        share_of_real.append(sum(two_sample_test(real, other)[:2]) / 2)
    assert share_of_real[0] == pytest.approx(0.5, abs=0.02) and share_of_real[1] > 0.6


def test_digits_of_8_pixels_equal_scikit_learn():
    from sklearn.datasets import load_digits

    images = Digits(8, labels=False).load().train.images_NCHW
    np.testing.assert_array_equal(images[:, 0], np.rint(load_digits().images[:1500] * 255 / 16))


def test_mnist_images_and_labels(small_mnist):
    source = MNIST(str(small_mnist), 32, labels=True)
    dataset = source.load()
    assert source.shape == (1, 32, 32)
    assert dataset.train.images_NCHW.shape == (20, 1, 32, 32) and len(dataset.held_out) == 5
    as_they_are = MNIST(str(small_mnist), 28, labels=True).load()
    for packed, (images, labels) in zip((as_they_are.train, as_they_are.held_out), CONTENT.values(), strict=True):
        np.testing.assert_array_equal(packed.images_NCHW[:, 0], images)
        assert packed.labels_N.dtype == torch.int64 and packed.labels_N.tolist() == labels.tolist()
    assert MNIST(str(small_mnist), 32, labels=False).load().train.labels_N is None


@pytest.mark.parametrize("inside", ["MNIST/raw", "MNIST", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_found_in_every_layout(small_mnist, inside, packed):
    if packed:
        gzipped(small_mnist / "MNIST" / "raw")
    dataset = MNIST(str(small_mnist / inside), 28, False).load()
    np.testing.assert_array_equal(dataset.train.images_NCHW[:, 0], CONTENT["train"][0])


@pytest.mark.parametrize(
    "name", ["{part}-{kind}.{axes}-ubyte", "{part}-{kind}-{axes}-ubyte/{part}-{kind}-{axes}-ubyte"]
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_is_found_with_the_names_of_kaggle(small_mnist, tmp_path, name, ending):
    if ending:
        gzipped(small_mnist / "MNIST" / "raw")
    for path in (small_mnist / "MNIST" / "raw").iterdir():
        part, kind, axes, _ = path.name.split("-")
        copy = tmp_path / "archive" / f"{name.format(part=part, kind=kind, axes=axes)}{ending}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        path.rename(copy)
    dataset = MNIST(str(tmp_path / "archive"), 28, False).load()
    np.testing.assert_array_equal(dataset.held_out.images_NCHW[:, 0], CONTENT["t10k"][0])


def test_mnist_from_a_zip(small_mnist, tmp_path):
    gzipped(small_mnist / "MNIST" / "raw")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in (small_mnist / "MNIST" / "raw").iterdir():
            archive.write(path, path.name)
    dataset = MNIST(str(tmp_path / "mine.zip"), 28, False).load()
    np.testing.assert_array_equal(dataset.held_out.images_NCHW[:, 0], CONTENT["t10k"][0])


def test_copy_is_found_in_mixgan_data(small_mnist, monkeypatch):
    monkeypatch.setenv("MIXGAN_DATA", str(small_mnist))
    assert len(MNIST(None, 28, False).load().train) == 20


@pytest.mark.parametrize("part", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("kept", [-3, 2, 0])
def test_truncated_file_is_named(small_mnist, part, ending, kept):
    if ending:
        gzipped(small_mnist / "MNIST" / "raw")
    path = small_mnist / "MNIST" / "raw" / f"{part}{ending}"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=f"{part}{ending}: truncated or damaged"):
        MNIST(str(small_mnist), 28, False).load()


def test_missing_file_is_named(small_mnist):
    (small_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: there is no such file"):
        MNIST(str(small_mnist), 28, False).load()


def test_missing_copy_gives_the_download_hint(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXGAN_CACHE", str(tmp_path))
    monkeypatch.delenv("MIXGAN_DATA", raising=False)

    monkeypatch.setattr(MNIST, "remote", (RemoteFile("http://127.0.0.1:9/nothing", "MNIST/raw/nothing", None),))
    with pytest.raises(DataError, match=r"give data\.root=FOLDER"):
        MNIST(None, 28, False).load()


def test_root_without_the_files(tmp_path):
    with pytest.raises(DataError, match="no FashionMNIST there"):
        FashionMNIST(str(tmp_path), 28, False).load()


def test_mnist_is_not_taken_for_fashion_mnist_in_mixgan_data(small_mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("MIXGAN_DATA", str(small_mnist / "MNIST"))
    monkeypatch.setenv("MIXGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(FashionMNIST, "remote", ())
    with pytest.raises(DataError, match="no local copy"):
        FashionMNIST(None, 28, False).load()


def test_mnist_is_not_taken_for_fashion_mnist_at_root(small_mnist):
    with pytest.raises(DataError, match="no FashionMNIST there"):
        FashionMNIST(str(small_mnist), 28, False).load()


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_real_files(source):
    real_folder("MIXGAN_DATA", f"{source.__name__}/raw")
    dataset = source(None, 28, True).load()
    assert dataset.train.images_NCHW.shape == (60_000, 1, 28, 28)
    assert dataset.held_out.images_NCHW.shape == (10_000, 1, 28, 28)
    assert dataset.train.labels_N.bincount().min() >= 5_000
    assert source(None, 32, True).load().train.images_NCHW.shape == (60_000, 1, 32, 32)
