"""Image files of every mode and size become one array; bytes and floats convert without loss."""

import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, features

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.images import Preprocessing, image_names, read_images, to_float, to_uint8
from mixgan_cli.errors import DataError
from tests.data.make import folder

BYTES = torch.arange(256, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_and_size_becomes_one_array(pictures, channels):
    dataset = folder(pictures, channels=channels).load()
    assert (len(dataset.train), len(dataset.held_out)) == (6, 2)
    assert dataset.train.images_NCHW.shape[1:] == (channels, 16, 16)
    assert folder(pictures, channels=channels).shape == (channels, 16, 16)


def test_zip_and_folder_give_the_same_images(pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in pictures.rglob("*"):
            archive.write(path, path.relative_to(pictures))
    from_folder, from_zip = folder(pictures).load(), folder(tmp_path / "pictures.zip").load()
    assert from_folder.train.checksum == from_zip.train.checksum
    assert from_folder.held_out.checksum == from_zip.held_out.checksum


def test_16_bits_are_scaled_not_clipped(pictures):
    packed = read_images(Archive(pictures, "data.root"), Preprocessing(16, "center", 1))
    names = image_names(Archive(pictures, "data.root").names)
    image = packed.images_NCHW[names.index("b/deep.png")]
    assert 90 < image.float().mean() < 165 and (image == 255).float().mean() < 0.05


def test_transparent_pixels_become_white():
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (Preprocessing(None, "none", 3)(clear) == 255).all()


def test_crops(tmp_path):
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = 255  # the middle third is white
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    files = Archive(tmp_path, "data.root")
    assert read_images(files, Preprocessing(10, "center", 1)).images_NCHW.float().mean() == 255
    assert read_images(files, Preprocessing(10, 4, 1)).images_NCHW.float().mean() == 255
    assert 60 < read_images(files, Preprocessing(10, "none", 1)).images_NCHW.float().mean() < 110


@pytest.mark.parametrize("crop", [11, 4000])
def test_crop_beyond_the_image_is_refused(tmp_path, crop):
    """Pillow would pad it with black."""
    Image.new("RGB", (30, 10), "white").save(tmp_path / "white.png")
    with pytest.raises(DataError, match=f"30×10 pixels, fewer than data.crop={crop}"):
        read_images(Archive(tmp_path, "data.root"), Preprocessing(8, crop, 3))


@pytest.mark.parametrize(("dtype", "kind"), [(np.int32, "32-bit integers"), (np.float32, "floats")])
def test_pixels_without_a_known_range_are_refused(tmp_path, dtype, kind):
    """Their values may be 0…1, 0…255 or 0…65,535; any guess makes some of them black."""
    Image.fromarray(np.full((8, 8), 200, dtype)).save(tmp_path / "image.tif")
    with pytest.raises(DataError, match=f"its pixels are {kind}, whose range is not known"):
        read_images(Archive(tmp_path, "data.root"), Preprocessing(8, "center", 1))


@pytest.mark.parametrize(("suffix", "form"), [(".jfif", "JPEG"), (".jpe", "JPEG"), (".avif", "AVIF"), (".JPG", "JPEG")])
def test_images_of_other_extensions_are_read(tmp_path, suffix, form):
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF: reading it is not tested")
    Image.new("L", (8, 8), 200).save(tmp_path / f"image{suffix}", form)
    pixels = read_images(Archive(tmp_path, "data.root"), Preprocessing(8, "center", 1)).images_NCHW
    assert (pixels.int() - 200).abs().max() <= 2


def test_long_text_in_a_png_is_no_fault(tmp_path):
    """Programs that make images store how in them; Pillow refuses more than 1 MiB."""
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 3_000_000, zip=True)
    Image.new("L", (8, 8)).save(tmp_path / "made.png", pnginfo=text)
    assert len(read_images(Archive(tmp_path, "images"), Preprocessing(8, "center", 1))) == 1


def test_uint8_float_round_trip():
    assert torch.equal(to_uint8(to_float(BYTES)), BYTES)


def test_to_float_range():
    values = to_float(BYTES)
    assert values.dtype == torch.float32
    assert values[0] == -1 and values[255] == 1


def test_to_uint8_rounds_and_clips():
    step = 2 / 255
    assert to_uint8(torch.tensor([-1 + 0.4 * step, -1 + 0.6 * step, -5.0, 5.0])).tolist() == [0, 1, 0, 255]


def test_to_uint8_of_bfloat16():
    values = torch.linspace(-1, 1, 256)
    half = values.to(torch.bfloat16)
    assert torch.equal(to_uint8(half), to_uint8(half.float()))


def test_undecodable_images_do_not_stay_in_memory(tmp_path):
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"cannot decode .*0.png \(not an image, or its beginning is damaged\).* and 35 more"
    ):
        read_images(Archive(tmp_path, "data.root"), Preprocessing(16, "center", 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 2**20
