"""CIFAR-10 and ImageNet at 32 pixels, in every layout they come in."""

import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mixgan_cli.data.datasets.cifar10 import CIFAR10, ImageNet32
from mixgan_cli.errors import DataError
from tests.conftest import real_folder
from tests.data.make import EACH, FILES, LABELS, PIXELS, as_pickles, batch_of, in_a_folder


def as_binary(folder):
    for number, name in enumerate(FILES):
        data, labels = batch_of(number)
        (folder / f"{name}.bin").write_bytes(np.hstack((labels[:, None].astype(np.uint8), data)).tobytes())


def as_arrays(folder):
    images = PIXELS.transpose(0, 2, 3, 1)
    np.savez(folder / "train.npz", images=images[: 5 * EACH], labels=LABELS[: 5 * EACH])
    np.savez(folder / "test.npz", images=images[5 * EACH :], labels=LABELS[5 * EACH :])


def as_pictures(folder):
    for number, (image, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        path = folder / ("train" if number < 5 * EACH else "test") / f"class{label}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)


def in_a_tar(write, to: Path):
    folder = in_a_folder(write, to / "source")
    with tarfile.open(to / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    return to / "cifar-10-python.tar.gz"


def in_a_zip(write, to: Path):
    folder = in_a_folder(write, to / "source")
    with zipfile.ZipFile(to / "cifar10.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    return to / "cifar10.zip"


@pytest.mark.parametrize("place", [in_a_folder, in_a_tar, in_a_zip])
@pytest.mark.parametrize("write", [as_pickles, as_binary, as_arrays])
def test_every_layout_gives_the_same_images(write, place, tmp_path):
    dataset = CIFAR10(str(place(write, tmp_path)), 32, labels=True).load()
    np.testing.assert_array_equal(dataset.train.images_NCHW, PIXELS[: 5 * EACH])
    np.testing.assert_array_equal(dataset.held_out.images_NCHW, PIXELS[5 * EACH :])
    assert dataset.train.labels_N.tolist() == LABELS[: 5 * EACH].tolist()
    assert dataset.held_out.labels_N.tolist() == LABELS[5 * EACH :].tolist()


@pytest.mark.parametrize("labels", [np.eye(10)[LABELS[: 5 * EACH]], LABELS[: 5 * EACH] / 2, LABELS[: 5 * EACH] - 1])
def test_unusable_labels_are_refused(labels, tmp_path):
    root = in_a_folder(as_arrays, tmp_path)
    np.savez(root / "train.npz", images=PIXELS[: 5 * EACH].transpose(0, 2, 3, 1), labels=labels)
    with pytest.raises(DataError, match=r"train\.npz: labels must be"):
        CIFAR10(str(root), 32, labels=True).load()


@pytest.mark.parametrize("place", [in_a_folder, in_a_zip])
def test_image_files_are_labelled_by_folder(place, tmp_path):
    """Images come in the order of their names, and labels are the numbers of their classes."""
    dataset = CIFAR10(str(place(as_pictures, tmp_path)), 32, labels=True).load()
    order = sorted(range(5 * EACH), key=lambda number: (LABELS[number], number))
    np.testing.assert_array_equal(dataset.train.images_NCHW, PIXELS[order])
    assert dataset.train.labels_N.tolist() == LABELS[order].tolist()


def test_copy_is_found_at_root_and_in_mixgan_data(tmp_path, monkeypatch):
    in_a_folder(as_pickles, tmp_path)
    assert len(CIFAR10(str(tmp_path), 32, False).load().train) == 5 * EACH
    monkeypatch.setenv("MIXGAN_DATA", str(tmp_path))
    dataset = CIFAR10(None, 16, False).load()
    assert dataset.train.images_NCHW.shape == (5 * EACH, 3, 16, 16) and dataset.train.labels_N is None
    assert "CIFAR-10, 32 px, bilinear to 16 px" in dataset.describe()["train"]["preprocessing"]


def test_missing_copy_gives_the_download_hint(tmp_path, monkeypatch):
    monkeypatch.delenv("MIXGAN_DATA", raising=False)
    with pytest.raises(DataError, match="mixgan fetch data=cifar10"):
        CIFAR10(None, 32, False).load()
    with pytest.raises(DataError, match=r"image-net\.org"):
        ImageNet32(str(tmp_path), 32, False).load()


def test_damaged_file_is_named(tmp_path):
    folder = in_a_folder(as_pickles, tmp_path)
    whole = (folder / "data_batch_3").read_bytes()
    (folder / "data_batch_3").write_bytes(whole[:-500])
    with pytest.raises(DataError, match="data_batch_3: truncated or damaged"):
        CIFAR10(str(folder), 32, False).load()
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 missing"):
        CIFAR10(str(folder), 32, False).load()
    tar = in_a_tar(as_pickles, tmp_path / "other")
    tar.write_bytes(tar.read_bytes()[:-5000])
    with pytest.raises(DataError, match="truncated or damaged"):
        CIFAR10(str(tar), 32, False).load()


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_hostile_pickle_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = in_a_folder(as_pickles, tmp_path)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Hostile(), b"labels": []}))
    with pytest.raises(DataError, match="not part of an array"):
        CIFAR10(str(folder), 32, False).load()
    assert not (tmp_path / "was-run").exists()


def test_classes_without_a_folder_are_refused(tmp_path):
    """Tiny ImageNet as it comes: its validation images have no classes."""
    for name in ("train/n0/images/a.png", "train/n1/images/b.png", "val/images/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    with pytest.raises(DataError, match=r"val/ has the class images, which train/ does not have.*such as val/n0"):
        ImageNet32(str(tmp_path), 32, labels=True).load()
    for number in (0, 1):
        (tmp_path / f"val/n{number}/images").mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / f"val/n{number}/images/d.png")
    (tmp_path / "val/images/c.png").unlink()
    dataset = ImageNet32(str(tmp_path), 32, labels=True).load()
    assert dataset.train.labels_N.tolist() == dataset.held_out.labels_N.tolist() == [0, 1]


IMAGENET = [*(f"train_data_batch_{number}" for number in range(1, 11)), "val_data"]


def in_two_zips(folder, to, ending):
    """Write the two zips that image-net.org offers."""
    to.mkdir()
    for part, names in (("train", IMAGENET[:10]), ("val", IMAGENET[10:])):
        with zipfile.ZipFile(to / f"Imagenet32_{part}{'_npz' if ending else ''}.zip", "w") as archive:
            for name in names:
                archive.write(folder / f"{name}{ending}", f"{name}{ending}")
    return to


@pytest.mark.parametrize("place", ["unpacked", "zips"])
@pytest.mark.parametrize("ending", ["", ".npz"])
def test_imagenet32_official_files(ending, place, tmp_path, monkeypatch):
    """Labels in the files are 1 to 1000, and become 0 to 999."""
    generator = np.random.default_rng(1)
    images = [generator.integers(0, 256, (3, 3072), dtype=np.uint8) for _ in IMAGENET]
    root = tmp_path / "unpacked"
    root.mkdir()
    for name, data in zip(IMAGENET, images, strict=True):
        batch = {"data": data, "labels": [1, 500, 1000], "mean": data.mean(axis=0)}
        if ending:
            np.savez(root / f"{name}.npz", **{**batch, "labels": np.array(batch["labels"])})
        else:
            (root / name).write_bytes(pickle.dumps(batch))
    if place == "zips":
        root = in_two_zips(root, tmp_path / "zips", ending)
    dataset = ImageNet32(str(root), 32, labels=True).load()
    np.testing.assert_array_equal(dataset.train.images_NCHW.flatten(1), np.concatenate(images[:10]))
    np.testing.assert_array_equal(dataset.held_out.images_NCHW.flatten(1), images[10])
    assert dataset.held_out.labels_N.tolist() == [0, 499, 999]
    if place == "zips":
        monkeypatch.setenv("MIXGAN_DATA", str(root))
        assert ImageNet32(None, 32, labels=True).load().train.checksum == dataset.train.checksum
        damaged = sorted(root.iterdir())[0]
        damaged.write_bytes(damaged.read_bytes()[:-3000])
        with pytest.raises(DataError, match="truncated"):
            ImageNet32(str(root), 32, labels=True).load()


def test_imagenet32_from_image_files(tmp_path):
    for part, n in (("train", 6), ("val", 2)):
        for number in range(n):
            path = tmp_path / part / f"n0{number % 2}" / f"{number}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 60, 3), 40 * number, np.uint8)).save(path, quality=100)
    dataset = ImageNet32(str(tmp_path), 32, labels=True).load()
    assert dataset.train.images_NCHW.shape == (6, 3, 32, 32) and len(dataset.held_out) == 2
    assert dataset.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert "centre crop" in dataset.train.preprocessing
    assert dataset.held_out.labels_N.tolist() == [0, 1]


def test_class_has_the_same_label_in_both_splits(tmp_path):
    """It has, even if the held-out split lacks a class."""
    for name in ("train/n0/a.png", "train/n1/b.png", "train/n2/c.png", "val/n2/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / name)
    dataset = ImageNet32(str(tmp_path), 32, labels=True).load()
    assert dataset.train.labels_N.tolist() == [0, 1, 2] and dataset.held_out.labels_N.tolist() == [2]


def test_real_cifar10():
    """Sizes, balanced labels and mean colours are those of the complete set (Krizhevsky 2009)."""
    folder = real_folder("MIXGAN_DATA", "cifar10")
    dataset = CIFAR10(str(folder), 32, labels=True).load()
    assert (len(dataset.train), len(dataset.held_out)) == (50_000, 10_000)
    assert torch.bincount(dataset.train.labels_N).tolist() == [5_000] * 10
    assert torch.bincount(dataset.held_out.labels_N).tolist() == [1_000] * 10
    means = dataset.train.images_NCHW.double().mean(dim=(0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=2e-4)  # the usual constants of normalisation
