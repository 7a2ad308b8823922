import gzip
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mixgan_cli.data.cache import Remote
from mixgan_cli.data.datasets.arrays import Arrays, convert_channels
from mixgan_cli.data.datasets.mnist import MNIST, Digits, FashionMNIST
from mixgan_cli.errors import DataError
from tests.conftest import real_folder


def write_idx(path, array):
    """An idx file as the MNIST page describes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


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


def gzipped(folder):
    """As the official archive comes: each file gzipped."""
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_are_scikit_learns(size):
    dataset = Digits(size, labels=True).load()
    assert (len(dataset.train), len(dataset.held_out)) == (1500, 297)
    assert dataset.train.images_NCHW.shape == (1500, 1, size, size) and dataset.train.labels_N.max() == 9


def test_digits_at_their_own_size_are_exact():
    from sklearn.datasets import load_digits

    images = Digits(8, labels=False).load().train.images_NCHW
    np.testing.assert_array_equal(images[:, 0], np.rint(load_digits().images[:1500] * 255 / 16))


def test_mnist_from_its_files(small_mnist):
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
def test_mnist_is_found_in_any_usual_layout(small_mnist, inside, packed):
    if packed:
        gzipped(small_mnist / "MNIST" / "raw")
    dataset = MNIST(str(small_mnist / inside), 28, False).load()
    np.testing.assert_array_equal(dataset.train.images_NCHW[:, 0], CONTENT["train"][0])


def test_mnist_from_a_zip(small_mnist, tmp_path):
    gzipped(small_mnist / "MNIST" / "raw")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in (small_mnist / "MNIST" / "raw").iterdir():
            archive.write(path, path.name)
    dataset = MNIST(str(tmp_path / "mine.zip"), 28, False).load()
    np.testing.assert_array_equal(dataset.held_out.images_NCHW[:, 0], CONTENT["t10k"][0])


def test_the_environment_says_where_data_are(small_mnist, monkeypatch):
    monkeypatch.setenv("MIXGAN_DATA", str(small_mnist))
    assert len(MNIST(None, 28, False).load().train) == 20


@pytest.mark.parametrize("part", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("kept", [-3, 2, 0])
def test_a_truncated_file_is_named(small_mnist, part, ending, kept):
    if ending:
        gzipped(small_mnist / "MNIST" / "raw")
    path = small_mnist / "MNIST" / "raw" / f"{part}{ending}"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=f"{part}{ending}: truncated or damaged"):
        MNIST(str(small_mnist), 28, False).load()


def test_a_missing_file_is_named(small_mnist):
    (small_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: there is no such file"):
        MNIST(str(small_mnist), 28, False).load()


def test_without_files_or_network_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXGAN_CACHE", str(tmp_path))
    monkeypatch.delenv("MIXGAN_DATA", raising=False)

    monkeypatch.setattr(MNIST, "remote", (Remote("http://127.0.0.1:9/nothing", "MNIST/raw/nothing", None),))
    with pytest.raises(DataError, match=r"give data\.root=FOLDER"):
        MNIST(None, 28, False).load()


def test_a_root_without_the_files(tmp_path):
    with pytest.raises(DataError, match="no FashionMNIST there"):
        FashionMNIST(str(tmp_path), 28, False).load()


@pytest.mark.parametrize("source", [MNIST, FashionMNIST])
def test_the_real_archives(source):
    real_folder("MIXGAN_DATA", f"{source.__name__}/raw")
    dataset = source(None, 28, True).load()
    assert dataset.train.images_NCHW.shape == (60_000, 1, 28, 28)
    assert dataset.held_out.images_NCHW.shape == (10_000, 1, 28, 28)
    assert dataset.train.labels_N.bincount().min() >= 5_000
    assert source(None, 32, True).load().train.images_NCHW.shape == (60_000, 1, 32, 32)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((12, 16, 16), (1, 16, 16)), ((12, 16, 16, 3), (3, 16, 16)), ((12, 3, 16, 16), (3, 16, 16)),
     ((12, 16, 16, 1), (1, 16, 16))],
)  # fmt: skip
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_arrays_in_every_layout(tmp_path, shape, expected, form):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"set.{form}"
    np.save(path, array) if form == "npy" else np.savez(path, images=array, labels=np.arange(12))
    source = Arrays(str(path), "images", None, 0.25, 0, labels=form == "npz")
    dataset = source.load()
    assert source.shape == expected == dataset.train.images_NCHW.shape[1:]
    assert (len(dataset.train), len(dataset.held_out)) == (9, 3)


def test_arrays_are_resized_on_request(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 20, 20), np.uint8))
    source = Arrays(str(tmp_path / "a.npy"), "images", 16, 0.2, 0, False)
    assert source.shape == (1, 16, 16) == source.load().train.images_NCHW.shape[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"junk", "damaged"), (np.zeros((4, 8, 8), np.float32), "uint8"),
     (np.zeros((4, 8), np.uint8), r"not \[4, 8\]")],
)  # fmt: skip
def test_arrays_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError, match=message):
        _ = Arrays(str(path), "images", None, 0.5, 0, False).shape


def test_the_environment_does_not_pass_one_set_for_another(small_mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("MIXGAN_DATA", str(small_mnist / "MNIST"))
    monkeypatch.setenv("MIXGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(FashionMNIST, "remote", ())
    with pytest.raises(DataError, match="no local copy"):
        FashionMNIST(None, 28, False).load()


def test_labels_of_an_array_without_labels(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"labels take an \.npz"):
        Arrays(str(tmp_path / "a.npy"), "images", None, 0.2, 0, labels=True).load()


def test_grey_of_an_array_is_grey_of_a_file():
    colour = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    by_pillow = [np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")) for image in colour]
    np.testing.assert_array_equal(convert_channels(colour, 1)[:, 0].numpy(), by_pillow)
    assert torch.equal(convert_channels(colour[:, :1], 3), colour[:, :1].expand(-1, 3, -1, -1))


def test_an_npz_without_that_array(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(DataError, match="no array 'images'; there is pictures"):
        Arrays(str(tmp_path / "a.npz"), "images", None, 0.5, 0, False).load()


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged"):
        Arrays(str(tmp_path / "a.npy"), "images", None, 0.5, 0, False).load()


def test_checksums_tell_sets_apart():
    first, second = Digits(8, False).load(), Digits(16, False).load()
    assert first.train.checksum == Digits(8, False).load().train.checksum
    assert len({first.train.checksum, first.held_out.checksum, second.train.checksum}) == 3


def test_reals_are_a_repeatable_choice():
    dataset = Digits(8, False).load()
    assert torch.equal(dataset.reals(50, 1), dataset.reals(50, 1))
    assert not torch.equal(dataset.reals(297, 1), dataset.held_out.images_NCHW)  # all of them, but in random order
    assert not torch.equal(dataset.reals(50, 1), dataset.reals(50, 2))
    assert len(dataset.reals(10_000, 1)) == 297


def test_a_folder_of_several_sets_gives_the_one_that_is_wanted(small_mnist):
    with pytest.raises(DataError, match="no FashionMNIST there"):
        FashionMNIST(str(small_mnist), 28, False).load()
