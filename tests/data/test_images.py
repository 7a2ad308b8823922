"""Image files of every mode and size, and those that are broken."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from mixgan_cli.data.datasets.folder import Folder
from mixgan_cli.data.images import ImageFiles, Preprocessing, folder_labels, read_images
from mixgan_cli.errors import DataError


def folder(root, **changes):
    settings = {
        "size": 16, "crop": "center", "channels": 3, "held_out": 0.25, "split_seed": 0, "labels": False,
        "skip_corrupt": False,
    }  # fmt: skip
    return Folder(str(root), **(settings | changes))


@pytest.fixture
def pictures(tmp_path):
    """One image a mode, of several sizes and formats, in folders within folders, and a text file."""
    root = tmp_path / "pictures"
    (root / "a" / "deep").mkdir(parents=True)
    (root / "b").mkdir()
    generator = np.random.default_rng(0)

    def noise(*shape, dtype=np.uint8):
        return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)

    Image.fromarray(noise(20, 30, 3)).save(root / "a" / "rgb.png")
    Image.fromarray(noise(64, 64, 3)).save(root / "a" / "deep" / "photo.JPG")
    Image.fromarray(noise(16, 16)).save(root / "a" / "grey.bmp")
    Image.fromarray(noise(40, 17, 4)).save(root / "b" / "transparent.png")
    Image.fromarray(noise(33, 21, 3)).convert("P").save(root / "b" / "palette.gif")
    Image.fromarray(noise(18, 18, 3)).convert("CMYK").save(root / "b" / "print.tiff")
    Image.fromarray(noise(16, 16, dtype=np.uint16)).save(root / "b" / "deep.png")
    Image.fromarray(noise(24, 24) > 128).save(root / "b" / "black-white.webp")
    (root / "readme.txt").write_text("no image")
    return root


@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_and_size_becomes_one_array(pictures, channels):
    dataset = folder(pictures, channels=channels).load()
    assert (len(dataset.train), len(dataset.held_out)) == (6, 2)
    assert dataset.train.images_NCHW.shape[1:] == (channels, 16, 16)
    assert folder(pictures, channels=channels).shape == (channels, 16, 16)


def test_a_zip_gives_what_the_folder_gives(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in pictures.rglob("*"):
            archive.write(path, path.relative_to(pictures))
    from_folder, from_zip = folder(pictures).load(), folder(tmp_path / "pictures.zip").load()
    assert from_folder.train.checksum == from_zip.train.checksum
    assert from_folder.held_out.checksum == from_zip.held_out.checksum


def test_sixteen_bits_are_scaled_not_clipped(pictures):
    packed = read_images(ImageFiles(pictures, "data.root"), Preprocessing(16, "center", 1))
    names = ImageFiles(pictures, "data.root").names
    image = packed.images_NCHW[names.index("b/deep.png")]
    assert 90 < image.float().mean() < 165 and (image == 255).float().mean() < 0.05


def test_transparency_shows_white():
    from mixgan_cli.data.images import _prepared

    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (_prepared(clear, Preprocessing(None, "none", 3)) == 255).all()


def test_crops(tmp_path):
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255  # the middle third is white
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    files = ImageFiles(tmp_path, "data.root")
    assert read_images(files, Preprocessing(10, "center", 1)).images_NCHW.float().mean() == 255
    assert read_images(files, Preprocessing(10, 4, 1)).images_NCHW.float().mean() == 255
    assert 60 < read_images(files, Preprocessing(10, "none", 1)).images_NCHW.float().mean() < 110


def test_labels_are_the_folders(pictures):
    names = ImageFiles(pictures, "data.root").names
    parents = [name.rpartition("/")[0] for name in names]
    expected = [sorted(set(parents)).index(parent) for parent in parents]
    assert folder_labels(names) == expected and set(expected) == {0, 1, 2}
    dataset = folder(pictures, labels=True).load()
    assert sorted([*dataset.train.labels_N.tolist(), *dataset.held_out.labels_N.tolist()]) == sorted(expected)
    assert folder_labels(["set/Boots/Ankle/Brand/1.jpg", "set/Shoes/Flat/Brand/2.jpg"], above=2) == [0, 1]


def test_a_corrupt_image_is_named(pictures):
    whole = (pictures / "a" / "rgb.png").read_bytes()
    (pictures / "a" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a/half\.png") as caught:
        folder(pictures).load()
    assert "rgb.png" not in str(caught.value) and "skip_corrupt" in str(caught.value)


def test_two_corrupt_images_among_thousands(tmp_path):
    """More than are decoded at a time: both are named, and without them each image keeps its own label."""
    for number in range(3000):
        kind = tmp_path / str(number % 3)
        kind.mkdir(exist_ok=True)
        Image.new("L", (2, 2), number % 3 * 80).save(kind / f"{number:04d}.ppm")
    bad = [tmp_path / "0" / "0300.ppm", tmp_path / "2" / "2999.ppm"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:8])
    with pytest.raises(DataError, match=r"0/0300\.ppm.*2/2999\.ppm"):
        folder(tmp_path, size=2, channels=1).load()
    dataset = folder(tmp_path, size=2, channels=1, labels=True, skip_corrupt=True).load()
    assert len(dataset.train) + len(dataset.held_out) == 2998
    for part in (dataset.train, dataset.held_out):
        assert part.images_NCHW[:, 0, 0, 0].tolist() == [80 * label for label in part.labels_N.tolist()]


def test_a_corrupt_image_may_be_left_out(pictures, caplog):
    (pictures / "a" / "empty.jpg").write_bytes(b"")
    dataset = folder(pictures, skip_corrupt=True).load()
    assert len(dataset.train) + len(dataset.held_out) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such folder"),
        (lambda p: p.mkdir(), "no images there"),
        (lambda p: p.write_text("x"), "neither a folder nor a zip"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, make, message):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=message):
        folder(tmp_path / "root").load()


def test_one_image_cannot_be_split(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "only.png")
    with pytest.raises(DataError, match="held_out"):
        folder(tmp_path).load()


def test_the_split_is_random_and_repeatable(tmp_path):
    for number in range(40):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number:02d}.png")

    def held_out(seed):
        return folder(tmp_path, split_seed=seed, channels=1).load().held_out.images_NCHW[:, 0, 0, 0].tolist()

    assert held_out(0) == held_out(0) != held_out(1)
    assert len(held_out(0)) == 10
