"""Images: decode files of any mode and size, resize, and convert between bytes and floats."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Block
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.device import total_memory


def to_float(images: Tensor) -> Tensor:
    """Map images of any shape from uint8 0…255 to float32 in [-1, 1]: x / 127.5 - 1."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Map images of any shape from [-1, 1] to the nearest of uint8 0…255, clipped: the inverse of `to_float`."""
    return images.float().mul(127.5).add_(128).clamp_(0, 255).to(torch.uint8)


Side = Annotated[int, Field(gt=0, le=1024)]
"""Of a square image, in pixels."""


def resized(images_NCHW: Tensor, size: int) -> Tensor:
    """Return images [N, C, size, size], in pixels, bilinear with antialiasing where they have another size."""
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    return resize(images_NCHW, [size, size], antialias=True)


def told(before: int, size: int) -> str:
    """Say what `resized` does to images of so many pixels a side."""
    return f"{size} px" if size == before else f"{before} px, bilinear to {size} px"


log = logging.getLogger("mixgan")

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Pillow goes by what is in a file, and knows formats that it hands to other programs."""
MOST_PIXELS = 2**28 // 3
"""Of one image, a quarter of a GiB in colour: where Pillow begins to warn."""
MOST_BYTES = 2**28
"""Of one image's file."""
LARGE = 2**22
"""Pixels from which on one image is decoded at a time."""
BLOCK = 2**24
"""Bytes of images that are handed on at a time."""
Crop = Literal["center", "none"] | int


class ImageFiles(Archive):
    """The image files below a folder, or in a zip or tar, by name. `key` is what the user calls the root.

    Raises:
        DataError: there is no such folder or archive, or no image in it.
    """

    def __init__(self, root: Path, key: str) -> None:
        super().__init__(root, key)
        if not self.names:
            raise DataError(f"{key}={root}: no images there ({', '.join(sorted(EXTENSIONS))})")

    @cached_property
    def names(self) -> list[str]:
        """The images' paths below the root, sorted."""
        return [name for name in super().names if Path(name).suffix.lower() in EXTENSIONS]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to each image.

    `size` is pixels a side, None to keep each as it is (they must then be of one size); `crop` is "center" for the
    largest centred square, "none" to stretch, or the side of a centred square in pixels; `channels` is 1 for grey, 3
    for colour. Resizing is bilinear with antialiasing.
    """

    size: int | None
    crop: Crop
    channels: int

    def __str__(self) -> str:
        cropped = {"center": "centre crop, ", "none": ""}.get(str(self.crop), f"centre crop {self.crop} px, ")
        return f"{cropped}{f'bilinear to {self.size} px' if self.size else 'as they are'}"


def image_blocks(
    files: Archive, names: Sequence[str], treatment: Preprocessing, labels: Sequence[int] | None, skip_corrupt: bool
) -> Iterator[Block]:
    """Decode images, some hundred at a time, and yield them in the order of their names.

    Args:
        files: where they are.
        names: which ones.
        treatment: what is done to each.
        labels: one an image, or None.
        skip_corrupt: whether images that cannot be decoded are left out (and named in the log) instead of an error.

    Raises:
        DataError: naming the images that cannot be decoded, or if their sizes differ.
    """

    def decode(content: bytes) -> np.ndarray | Exception:
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > MOST_PIXELS:  # the header says so: they take no memory yet
                    raise ValueError(f"{image.width}×{image.height}, more than {MOST_PIXELS:,} pixels")
                with one_large if pixels > LARGE else nullcontext():
                    return _prepared(image, treatment)
        except Exception as error:  # Pillow raises many kinds; each means this file cannot be used
            return error

    one_large = Lock()
    corrupt: dict[str, Exception] = {}
    sizes: set[tuple[int, ...]] = set()
    good: list[np.ndarray] = []
    kept: list[int] = []

    def block() -> Block:
        images = torch.from_numpy(np.stack(good)).permute(0, 3, 1, 2).contiguous()
        return Block(images, None if labels is None else torch.tensor([labels[number] for number in kept]))

    for number, (name, result) in enumerate(files.each(names, decode, MOST_BYTES)):
        if isinstance(result, Exception):
            corrupt[name] = result
            continue
        good.append(result)
        kept.append(number)
        sizes.add(result.shape)
        if len(sizes) > 1:
            raise DataError(f"{files.key}={files.root}: images of different sizes, {sorted(sizes)}")
        if len(good) * result.nbytes > BLOCK:
            yield block()
            good, kept = [], []
    if good:
        yield block()
    if corrupt:
        _report(files.root, corrupt, skip_corrupt)  # raises, unless they are to be left out
    if not sizes:
        raise DataError(f"{files.key}={files.root}: not one of {len(corrupt)} images can be decoded")


def read_images(files: ImageFiles, treatment: Preprocessing) -> Packed:
    """Return all images in memory, without labels.

    Raises:
        DataError: naming the images that cannot be decoded.
    """
    images, needed = [], 0
    for block in image_blocks(files, files.names, treatment, None, skip_corrupt=False):
        images.append(block.images_NCHW)
        needed += block.images_NCHW.nbytes
        if needed > total_memory() / 4:  # they are copied once more
            raise DataError(f"{files.key}={files.root}: {len(files.names):,} images take too much memory. Take fewer")
    return Packed(torch.cat(images), None, f"{files.root.name}, {treatment}")


def folder_labels(names: Sequence[str], above: int = 0) -> list[int]:
    """Return the number of each file's folder, or one so many levels above, among all such, in alphabetical order."""
    folders = [Path(name).parents[min(above, len(Path(name).parents) - 1)].as_posix() for name in names]
    numbers = {name: number for number, name in enumerate(sorted(set(folders)))}
    return [numbers[name] for name in folders]


def _prepared(image: Image.Image, treatment: Preprocessing) -> np.ndarray:
    """Return [H, W, C] uint8."""
    size, crop, channels = treatment.size, treatment.crop, treatment.channels
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I;16", "I")):  # 16 bits a pixel: Pillow would clip them, not scale them
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    if crop != "none":
        side = min(image.size) if crop == "center" else int(crop)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image)
    return array[:, :, None] if channels == 1 else array


def _report(root: Path, corrupt: dict[str, Exception], skip: bool) -> None:
    named = "; ".join(f"{root / name} ({error})" for name, error in list(corrupt.items())[:5])
    more = f" and {len(corrupt) - 5} more" if len(corrupt) > 5 else ""
    if not skip:
        raise DataError(
            f"cannot decode {named}{more}. Mend or remove it (data=folder can leave such out: data.skip_corrupt=true)"
        )
    log.warning("left out %d images that cannot be decoded: %s%s", len(corrupt), named, more)
