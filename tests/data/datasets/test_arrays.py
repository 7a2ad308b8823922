"""Images from .npy and .npz files."""

import numpy as np
import pytest
import torch
from PIL import Image

from mixgan_cli.data.datasets.arrays import Arrays, convert_channels
from mixgan_cli.errors import DataError


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((12, 16, 16), (1, 16, 16)), ((12, 16, 16, 3), (3, 16, 16)), ((12, 3, 16, 16), (3, 16, 16)),
     ((12, 16, 16, 1), (1, 16, 16))],
)  # fmt: skip
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_every_layout(tmp_path, shape, expected, form):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"set.{form}"
    np.save(path, array) if form == "npy" else np.savez(path, images=array, labels=np.arange(12))
    source = Arrays(str(path), "images", None, 0.25, 0, labels=form == "npz")
    dataset = source.load()
    assert source.shape == expected == dataset.train.images_NCHW.shape[1:]
    assert (len(dataset.train), len(dataset.held_out)) == (9, 3)


def test_images_are_resized(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 20, 20), np.uint8))
    source = Arrays(str(tmp_path / "a.npy"), "images", 16, 0.2, 0, False)
    assert source.shape == (1, 16, 16) == source.load().train.images_NCHW.shape[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"junk", "damaged"), (np.zeros((4, 8, 8), np.float32), "uint8"),
     (np.zeros((4, 8), np.uint8), r"not \[4, 8\]"), (np.zeros((0, 8, 8, 3), np.uint8), "no images"),
     (np.zeros((32, 32, 3), np.uint8), "may be a single picture"),
     (np.zeros((3, 32, 32), np.uint8), "may be a single picture"),
     (np.zeros((40, 3, 3, 3), np.uint8), r"may be \[N, H, W, C\]")],
)  # fmt: skip
def test_unusable_file(tmp_path, content, message):
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError, match=message):
        _ = Arrays(str(path), "images", None, 0.5, 0, False).shape


def test_labels_need_an_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"labels need an \.npz"):
        Arrays(str(tmp_path / "a.npy"), "images", None, 0.2, 0, labels=True).load()


def test_conversion_to_grey_equals_pillow():
    colour = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    by_pillow = [np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")) for image in colour]
    np.testing.assert_array_equal(convert_channels(colour, 1)[:, 0].numpy(), by_pillow)
    assert torch.equal(convert_channels(colour[:, :1], 3), colour[:, :1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("beside", [{}, {"labels": np.arange(4)}])
def test_single_array_of_an_npz_is_taken(tmp_path, beside):
    np.savez(tmp_path / "a.npz", **{"arr_0": np.zeros((4, 8, 8), np.uint8), **beside})
    assert Arrays(str(tmp_path / "a.npz"), "images", None, 0.5, 0, bool(beside)).shape == (1, 8, 8)


def test_npz_without_that_array(tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", pictures=images, others=images)
    with pytest.raises(DataError, match="no array 'images'; there is pictures, others"):
        Arrays(str(tmp_path / "a.npz"), "images", None, 0.5, 0, False).load()
    np.savez(tmp_path / "b.npz", images=images)
    with pytest.raises(DataError, match="no array 'labels'; there is images"):
        Arrays(str(tmp_path / "b.npz"), "images", None, 0.5, 0, True).load()


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.arange(30) % 4, "30 labels for 40 images"), (np.arange(50) % 4, "50 labels for 40 images"),
     (np.eye(4, dtype=np.float32)[np.arange(40) % 4], r"not \[40, 4\]. Of one-hot labels"),
     (np.where(np.arange(40) < 5, -1, 1), "from -1 to 1"), ((np.arange(40) % 4) / 4, "integers, not float64"),
     (np.where(np.arange(40) < 5, np.nan, 1.0), "integers, not float64"), (np.array(["cat", "dog"] * 20), "not text"),
     (np.arange(40) + 2_000_000_000, "at most 65,535"), (np.uint64(2**63) + np.arange(40, dtype=np.uint64), "at most")],
)  # fmt: skip
def test_unusable_labels(tmp_path, labels, message):
    np.savez(tmp_path / "a.npz", images=np.zeros((40, 8, 8), np.uint8), labels=labels)
    with pytest.raises(DataError, match=message):
        Arrays(str(tmp_path / "a.npz"), "images", None, 0.5, 0, True).load()
    Arrays(str(tmp_path / "a.npz"), "images", None, 0.5, 0, False).load()


def test_labels_in_a_column(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((40, 8, 8), np.uint8), labels=(np.arange(40) % 4)[:, None])
    dataset = Arrays(str(tmp_path / "a.npz"), "images", None, 0.5, 0, True).load()
    assert sorted([*dataset.train.labels_N.tolist(), *dataset.held_out.labels_N.tolist()]) == sorted([0, 1, 2, 3] * 10)


def test_images_that_are_not_square_are_described(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 16, 24, 3), np.uint8))
    dataset = Arrays(str(tmp_path / "a.npy"), "images", 16, 0.2, 0, False).load()
    assert dataset.train.preprocessing == "a.npy, 16×24 px, stretched, bilinear to 16 px"


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged"):
        Arrays(str(tmp_path / "a.npy"), "images", None, 0.5, 0, False).load()
