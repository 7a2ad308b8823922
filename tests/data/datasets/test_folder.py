"""Folders of images, UT Zappos50K and Flowers-102."""

import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.datasets.folder import Flowers102, UTZap50K, folder_labels
from mixgan_cli.data.images import image_names
from mixgan_cli.errors import DataError
from tests.conftest import TINY
from tests.data.make import COMMON, everything, folder, picture


def test_labels_are_the_folders(pictures):
    names = image_names(Archive(pictures, "data.root").names)
    parents = [name.rpartition("/")[0] for name in names]
    expected = [sorted(set(parents)).index(parent) for parent in parents]
    assert folder_labels(names) == expected and set(expected) == {0, 1, 2}
    dataset = folder(pictures, labels=True).load()
    assert sorted([*dataset.train.labels_N.tolist(), *dataset.held_out.labels_N.tolist()]) == sorted(expected)
    assert folder_labels(["set/Boots/Ankle/Brand/1.jpg", "set/Shoes/Flat/Brand/2.jpg"], above=2) == [0, 1]


def test_classes_are_above_folders_of_one_name():
    """Tiny ImageNet: train/CLASS/images."""
    assert folder_labels(["train/b/images/1.png", "train/a/images/1.png", "train/b/images/2.png"]) == [1, 0, 1]
    assert folder_labels(["a/1.png", "b/1.png"]) == [0, 1] and folder_labels(["images/1.png", "images/2.png"]) == [0, 0]


def test_files_that_are_not_used_are_counted(pictures, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mixgan"), "propagate", True)
    for name in ("notes.txt", "more.txt", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg"):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(b"x")
    caplog.set_level(logging.INFO, logger="mixgan")
    folder(pictures).load()
    assert "not used: 4 files (3 .txt, 1 hidden)" in caplog.text


def test_a_renamed_folder_is_the_same_set(pictures):
    first = folder(pictures).load().train
    moved = pictures.rename(pictures.with_name("faces_v2"))
    again = folder(moved).load().train
    assert again.checksum == first.checksum and again.preprocessing.startswith("faces_v2")
    assert len(list((cache_dir() / "prepared").glob("folder-*/"))) == 1


def test_other_files_do_not_change_the_prepared_set(pictures):
    folder(pictures).load()
    (pictures / "notes.txt").write_text("new")
    folder(pictures).load()
    assert len(list((cache_dir() / "prepared").glob("folder-*/"))) == 1
    Image.new("RGB", (20, 20)).save(pictures / "new.png")
    folder(pictures).load()
    assert len(list((cache_dir() / "prepared").glob("folder-*/"))) == 2


def test_corrupt_image_is_named(pictures):
    whole = (pictures / "a" / "rgb.png").read_bytes()
    (pictures / "a" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a/half\.png") as caught:
        folder(pictures).load()
    assert "rgb.png" not in str(caught.value) and "skip_corrupt" in str(caught.value)


def test_corrupt_images_among_thousands_keep_labels_in_order(tmp_path):
    """With more images than one block, both corrupt ones are named, and skipping them keeps the other labels."""
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


def test_corrupt_image_can_be_skipped(pictures, caplog):
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
def test_unusable_folder(tmp_path, make, message):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=message):
        folder(tmp_path / "root").load()


def test_single_image_cannot_be_split(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "only.png")
    with pytest.raises(DataError, match="held_out"):
        folder(tmp_path).load()


def test_split_is_random_and_repeatable(tmp_path):
    for number in range(40):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number:02d}.png")

    def held_out(seed):
        return folder(tmp_path, split_seed=seed, channels=1).load().held_out.images_NCHW[:, 0, 0, 0].tolist()

    assert held_out(0) == held_out(0) != held_out(1)
    assert len(held_out(0)) == 10


def test_utzap50k_labels_are_the_categories(tmp_path):
    kinds = {"Boots/Ankle/Brand A": 0, "Sandals/Flat/B.": 1, "Shoes/Oxfords/Brand A": 2, "Slippers/Slipper Flats/C": 3}
    for kind, label in kinds.items():
        for number in range(3):
            picture(tmp_path / "ut-zap50k-images-square" / kind / f"{number}.jpg", 136, 136, 60 * label + 10 * number)
    source = UTZap50K(str(tmp_path), crop="center", channels=3, held_out=2, labels=True, **COMMON)
    expected = {60 * label + 10 * number: label for label in range(4) for number in range(3)}
    assert everything(source.load()) == expected


@pytest.mark.parametrize("layout", ["folder", "tgz"])
def test_flowers102_labels_are_the_kinds(layout, tmp_path):
    kinds = [102, 5, 5, 1, 77, 3, 2, 9]
    for number in range(1, 9):
        picture(tmp_path / "flowers-102" / "jpg" / f"image_{number:05d}.jpg", 80, 60, 20 * number)
    savemat(tmp_path / "flowers-102" / "imagelabels.mat", {"labels": np.array([kinds], np.uint8)})
    root = tmp_path
    if layout == "tgz":
        root = tmp_path / "flowers-102" / "102flowers.tgz"
        with tarfile.open(root, "w:gz") as archive:
            archive.add(tmp_path / "flowers-102" / "jpg", "jpg")
    source = Flowers102(str(root), crop="center", channels=3, held_out=2, labels=True, **COMMON)
    assert everything(source.load()) == {20 * number: kind - 1 for number, kind in enumerate(kinds, 1)}
    savemat(tmp_path / "flowers-102" / "imagelabels.mat", {"labels": np.array([kinds[::-1]], np.uint8)})
    assert everything(source.load()) == {20 * number: kind - 1 for number, kind in enumerate(kinds[::-1], 1)}


def test_utzap50k_cannot_be_downloaded():
    with pytest.raises(DataError, match=r"vision\.cs\.utexas\.edu"):
        UTZap50K(None, crop="center", channels=3, held_out=2, labels=True, **COMMON).fetch()


@pytest.mark.parametrize(
    "key", ["paths.outputs=photos/outputs", "paths.run=photos/run", "paths.outputs=linked/outputs"]
)
def test_run_in_the_folder_of_its_images_is_refused(mixgan, key):
    """Its sample grids would be images of the set, so that the next run has other data."""
    for number in range(40):
        picture(Path(f"photos/{number}.png"), 8, 8, number)
    Path("linked").symlink_to("photos")
    settings = (*TINY, "data=folder", "data.root=photos", "data.size=8", "evaluation=none", "training.nimg=16")
    outcome = mixgan("train", *settings, key)
    assert outcome.code == 2 and f"{key.partition('=')[0]}: " in outcome.err and "is in data.root=photos" in outcome.err
    assert not Path(key.partition("=")[2]).exists()
    assert mixgan("train", *settings).code == 0
