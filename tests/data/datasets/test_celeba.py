"""CelebA, on small copies laid out as the official one and as Kaggle's."""

import logging
import zipfile

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Resize
from torchvision.transforms.functional import pil_to_tensor

from mixgan_cli.data.datasets.celeba import CelebA
from mixgan_cli.errors import DataError
from tests.data.make import COMMON, everything, picture

N = 12

MALE = [number % 3 == 0 for number in range(1, N + 1)]


@pytest.fixture
def celeba(tmp_path):
    """A copy in torchvision's layout, unpacked. Both crops remove the border of each face."""
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


@pytest.mark.parametrize("crop", [148, 160])
def test_layout_of_torchvision(celeba, crop):
    dataset = faces(celeba.parent, crop).load()
    assert (len(dataset.train), len(dataset.held_out)) == (N - 3, 3)
    assert everything(dataset) == EXPECTED
    assert f"centre crop {crop} px, bilinear to 16 px" in dataset.train.preprocessing


def test_zips_official_and_kaggle(celeba, tmp_path):
    """Kaggle's has nested folders, and the attributes as a table."""
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
def test_crop_and_resize_equal_torchvision(crop, size, tmp_path):
    """Gradients in every direction are equal to torchvision's transforms of the decoded image, in each pixel."""
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


def test_other_archive_is_not_taken_for_celeba(tmp_path, monkeypatch):
    """Every download from Kaggle is called archive.zip."""
    picture(tmp_path / "flower.jpg", 178, 218, 9)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "flower.jpg", "flowers/flower.jpg")
    monkeypatch.setenv("MIXGAN_DATA", str(tmp_path))
    with pytest.raises(DataError, match="no local copy"):
        CelebA(None, crop=148, held_out=1, labels=False, attribute="Male", **COMMON).load()


def test_attributes_as_labels(celeba):
    """Each attribute is prepared on its own, so the labels of one are not taken for another's."""
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


def test_incomplete_set_is_reported(celeba, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mixgan"), "propagate", True)
    with caplog.at_level("WARNING", logger="mixgan"):
        faces(celeba).load()
    assert "CelebA has 202,599 images, this copy has 12" in caplog.text


def test_split_depends_on_split_seed(celeba):
    def held_out(seed):
        settings = {**COMMON, "split_seed": seed}
        source = CelebA(str(celeba), crop=148, held_out=4, labels=False, attribute="Male", **settings)
        return source.load().held_out.checksum

    assert held_out(1) == held_out(1) != held_out(2)
    with pytest.raises(DataError, match=r"data\.held_out=12"):
        faces(celeba, held_out=12).load()


def test_corrupt_face_is_named_or_skipped(celeba):
    (celeba / "img_align_celeba" / "000003.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000003\.jpg"):
        faces(celeba).load()
    settings = {**COMMON, "skip_corrupt": True}
    dataset = CelebA(str(celeba), crop=148, held_out=3, labels=True, attribute="Male", **settings).load()
    assert everything(dataset) == {grey: label for grey, label in EXPECTED.items() if grey != 30}
