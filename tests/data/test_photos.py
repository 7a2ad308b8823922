"""STL-10, CelebA, UT Zappos50K and Flowers-102, on small copies laid out as the official ones."""

import logging
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.transforms import CenterCrop, Resize
from torchvision.transforms.functional import pil_to_tensor

from mixgan_cli.data.datasets.celeba import CelebA
from mixgan_cli.data.datasets.folder import Flowers102, UTZap50K
from mixgan_cli.data.datasets.stl10 import STL10
from mixgan_cli.errors import DataError

COMMON = {"size": 16, "split_seed": 0, "skip_corrupt": False}


def picture(path, width, height, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(path, quality=100)


def everything(dataset):
    """{grey: label} of all images."""
    found = {}
    for part in (dataset.train, dataset.held_out):
        labels = [None] * len(part) if part.labels_N is None else part.labels_N.tolist()
        found |= dict(zip(part.images_NCHW.float().mean(dim=(1, 2, 3)).round().int().tolist(), labels, strict=True))
    return found


# STL-10


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


def test_stl10(stl10, tmp_path):
    dataset = STL10(str(stl10), 96, labels=True).load()
    np.testing.assert_array_equal(dataset.train.images_NCHW, np.load(tmp_path / "unlabeled_X.bin.npy"))
    np.testing.assert_array_equal(dataset.held_out.images_NCHW, np.load(tmp_path / "test_X.bin.npy"))
    assert dataset.train.labels_N is None and dataset.held_out.labels_N.tolist() == [0, 9, 2]
    with tarfile.open(tmp_path / "stl10_binary.tar.gz", "w:gz") as archive:
        archive.add(stl10, "stl10_binary")
    from_tar = STL10(str(tmp_path / "stl10_binary.tar.gz"), 96, labels=True).load()
    assert from_tar.train.checksum == dataset.train.checksum


@pytest.mark.parametrize("size", [32, 48, 64])
def test_stl10_at_other_sizes(stl10, size):
    assert STL10(str(stl10), size, labels=False).load().train.images_NCHW.shape == (7, 3, size, size)


def test_stl10_truncated(stl10):
    path = stl10 / "unlabeled_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"unlabeled_X\.bin: truncated or damaged"):
        STL10(str(stl10), 48, labels=False).load()


# CelebA

N = 12
MALE = [number % 3 == 0 for number in range(1, N + 1)]


@pytest.fixture
def celeba(tmp_path):
    """Torchvision's layout, unpacked; each face has a border that both crops leave out."""
    folder = tmp_path / "celeba"
    for number in range(1, N + 1):
        path = folder / "img_align_celeba" / f"{number:06d}.jpg"
        picture(path, 178, 218, 0)
        with Image.open(path) as image:
            image.paste((10 * number,) * 3, (9, 29, 169, 189))  # 160×160 in the middle
            image.save(path, quality=100)
    lines = [str(N), "Bald Male Young"]
    lines += [f"{number:06d}.jpg -1 {' 1' if male else '-1'}  1" for number, male in enumerate(MALE, 1)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return folder


def faces(root, crop=148, labels=True, attribute="Male", held_out=3):
    return CelebA(str(root), crop=crop, held_out=held_out, labels=labels, attribute=attribute, **COMMON)


EXPECTED = {10 * number: int(male) for number, male in enumerate(MALE, 1)}


def test_a_file_of_stl10_that_goes_on_is_not_read_to_its_end(stl10, monkeypatch):
    """Seven images, where at most five are expected; two are read at a time."""
    monkeypatch.setattr("mixgan_cli.data.datasets.stl10.MOST", 5)
    monkeypatch.setattr("mixgan_cli.data.datasets.stl10.AT_A_TIME", 2)
    with pytest.raises(DataError, match=r"unlabeled_X\.bin: truncated or damaged"):
        STL10(str(stl10), 96, labels=True).load()


@pytest.mark.parametrize("crop", [148, 160])
def test_celeba_as_torchvision_unpacks_it(celeba, crop):
    dataset = faces(celeba.parent, crop).load()
    assert (len(dataset.train), len(dataset.held_out)) == (N - 3, 3)
    assert everything(dataset) == EXPECTED
    assert f"centre crop {crop} px, bilinear to 16 px" in dataset.train.preprocessing


def test_celeba_zips(celeba, tmp_path):
    """The official one, and Kaggle's with a folder in the folder and a table."""
    official, kaggle = tmp_path / "a" / "img_align_celeba.zip", tmp_path / "archive.zip"
    official.parent.mkdir()
    rows = "\n".join(f"{number:06d}.jpg,-1,{1 if male else -1},1" for number, male in enumerate(MALE, 1))
    for path, inside in ((official, "img_align_celeba"), (kaggle, "img_align_celeba/img_align_celeba")):
        with zipfile.ZipFile(path, "w") as archive:
            for image in sorted((celeba / "img_align_celeba").iterdir()):
                archive.write(image, f"{inside}/{image.name}")
            if path == kaggle:
                archive.writestr("list_attr_celeba.csv", f"image_id,Bald,Male,Young\n{rows}\n")
    (official.parent / "list_attr_celeba.txt").write_text((celeba / "list_attr_celeba.txt").read_text())
    assert everything(faces(official).load()) == everything(faces(kaggle).load()) == EXPECTED


@pytest.mark.parametrize(("crop", "size"), [(148, 64), (160, 64), (148, 32)])
def test_celeba_is_cropped_and_resized_as_the_papers_do(crop, size, tmp_path):
    """A gradient in every direction, against torchvision's transforms of the decoded picture: to the pixel."""
    across, down = np.meshgrid(np.arange(178), np.arange(218))
    pixels = np.stack([across, down, (across + down) % 256], axis=2).astype(np.uint8)
    for number in range(1, 5):
        Image.fromarray(np.roll(pixels, number, axis=1)).save(tmp_path / f"{number:06d}.jpg", quality=95)
    dataset = CelebA(str(tmp_path), size, crop, 1, 0, False, "Male", False).load()
    expected = []
    for number in range(1, 5):
        with Image.open(tmp_path / f"{number:06d}.jpg") as image:
            expected.append(pil_to_tensor(Resize(size)(CenterCrop(crop)(image))).tolist())
    found = [*dataset.train.images_NCHW.tolist(), *dataset.held_out.images_NCHW.tolist()]
    assert sorted(found) == sorted(expected)


def test_another_archive_is_not_taken_for_celeba(tmp_path, monkeypatch):
    """Whatever is downloaded from Kaggle is called archive.zip."""
    picture(tmp_path / "flower.jpg", 178, 218, 9)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "flower.jpg", "flowers/flower.jpg")
    monkeypatch.setenv("MIXGAN_DATA", str(tmp_path))
    with pytest.raises(DataError, match="no local copy"):
        CelebA(None, crop=148, held_out=1, labels=False, attribute="Male", **COMMON).load()


def test_celebas_attributes(celeba):
    """One after the other: what was prepared with one attribute is not taken for another."""
    assert everything(faces(celeba, attribute="Male").load()) == EXPECTED
    assert set(everything(faces(celeba, attribute="Young").load()).values()) == {1}
    assert set(everything(faces(celeba, attribute="Bald").load()).values()) == {0}
    with pytest.raises(DataError, match=r"data\.attribute=Old: there is Bald, Male, Young"):
        faces(celeba, attribute="Old").load()
    whole = (celeba / "list_attr_celeba.txt").read_text()
    (celeba / "list_attr_celeba.txt").write_text(whole[: whole.index("000011.jpg")])
    with pytest.raises(DataError, match=r"000011\.jpg and 1 more are not in the list"):
        faces(celeba).load()
    (celeba / "list_attr_celeba.txt").unlink()
    with pytest.raises(DataError, match=r"no list_attr_celeba\.txt"):
        faces(celeba).load()
    assert set(everything(faces(celeba, labels=False).load()).values()) == {None}


def test_a_set_that_is_not_whole_is_told(celeba, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mixgan"), "propagate", True)
    with caplog.at_level("WARNING", logger="mixgan"):
        faces(celeba).load()
    assert "CelebA has 202,599 images, here are 12" in caplog.text


def test_the_split_is_a_choice_that_a_seed_names(celeba):
    def held_out(seed):
        settings = {**COMMON, "split_seed": seed}
        source = CelebA(str(celeba), crop=148, held_out=4, labels=False, attribute="Male", **settings)
        return source.load().held_out.checksum

    assert held_out(1) == held_out(1) != held_out(2)
    with pytest.raises(DataError, match=r"data\.held_out=12"):
        faces(celeba, held_out=12).load()


def test_a_corrupt_face_is_named_or_left_out(celeba):
    (celeba / "img_align_celeba" / "000003.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000003\.jpg"):
        faces(celeba).load()
    settings = {**COMMON, "skip_corrupt": True}
    dataset = CelebA(str(celeba), crop=148, held_out=3, labels=True, attribute="Male", **settings).load()
    assert everything(dataset) == {grey: label for grey, label in EXPECTED.items() if grey != 30}


# UT Zappos50K and Flowers-102


def test_utzap50k(tmp_path):
    kinds = {"Boots/Ankle/Brand A": 0, "Sandals/Flat/B.": 1, "Shoes/Oxfords/Brand A": 2, "Slippers/Slipper Flats/C": 3}
    for kind, label in kinds.items():
        for number in range(3):
            picture(tmp_path / "ut-zap50k-images-square" / kind / f"{number}.jpg", 136, 136, 60 * label + 10 * number)
    source = UTZap50K(str(tmp_path), crop="center", channels=3, held_out=2, labels=True, **COMMON)
    expected = {60 * label + 10 * number: label for label in range(4) for number in range(3)}
    assert everything(source.load()) == expected


@pytest.mark.parametrize("layout", ["folder", "tgz"])
def test_flowers102(layout, tmp_path):
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


def test_by_hand_where_it_must_be():
    with pytest.raises(DataError, match=r"vision\.cs\.utexas\.edu"):
        UTZap50K(None, crop="center", channels=3, held_out=2, labels=True, **COMMON).fetch()
