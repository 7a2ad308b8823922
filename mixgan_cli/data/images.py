"""Images: decode files of any mode and size, crop, resize, and convert between bytes and floats."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError, features
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Block
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.device import total_memory

log = logging.getLogger("mixgan")

EXTENSIONS = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif"),
        *(".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    }
)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))
"""The formats that Pillow may open. It goes by a file's content, and would run other programs for some formats."""
MAX_PIXELS = 2**28 // 3
"""Maximum number of pixels of an image, 0.25 GiB in colour: where Pillow starts to warn."""
MAX_IMAGE_BYTES = 2**28
"""Maximum size of an image file [bytes]."""
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
"""Accept long text in a PNG, such as the workflow that made it. Pillow's limit for each is 1 MiB, for all 64 MiB."""
LARGE_PIXELS = 2**22
"""Images with more pixels than this are decoded one at a time."""
BLOCK_BYTES = 2**24
"""Size of the blocks of decoded images [bytes]."""

Side = Annotated[int, Field(gt=0, le=1024)]
"""The side of a square image in pixels."""
Crop = Literal["center", "none"] | Annotated[int, Field(gt=0, le=2**16)]


def to_float(images: Tensor) -> Tensor:
    """Map images of any shape from uint8 0…255 to float32 in [-1, 1]: x / 127.5 - 1."""
    return images.to(torch.float32).div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Map images of any shape from [-1, 1] to the nearest of uint8 0…255, clipped: the inverse of `to_float`."""
    return images.float().mul(127.5).add_(128).clamp_(0, 255).to(torch.uint8)


def resize_to(images_NCHW: Tensor, size: int) -> Tensor:
    """Return images [N, C, size, size], in pixels; others are resized, bilinear with antialiasing."""
    if images_NCHW.shape[-2:] == (size, size):
        return images_NCHW
    return resize(images_NCHW, [size, size], antialias=True)


def describe_resize(before: Sequence[int], size: int) -> str:
    """Return in words what `resize_to` does to images of height and width `before`: "28 px, bilinear to 32 px"."""
    height, width = before
    if height != width:
        return f"{height}×{width} px, stretched, bilinear to {size} px"
    return f"{size} px" if size == height else f"{height} px, bilinear to {size} px"


def image_names(names: Sequence[str]) -> list[str]:
    """Return the names of files that have the extension of an image file."""
    return [name for name in names if Path(name).suffix.lower() in EXTENSIONS]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to each image. As text, it describes itself. Resizing is bilinear with antialiasing.

    `size` is pixels a side, or None to keep images of one size as they are. `crop` is "center" for the largest centred
    square, "none" to stretch, or the side of a centred square in pixels. `channels` is 1 for grey, 3 for colour.
    """

    size: int | None
    crop: Crop
    channels: int

    def __str__(self) -> str:
        cropped = {"center": "centre crop, ", "none": ""}.get(str(self.crop), f"centre crop {self.crop} px, ")
        return f"{cropped}{f'bilinear to {self.size} px' if self.size else 'as they are'}"

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return the preprocessed image [H, W, C] uint8. Transparent pixels become white, 16 bits become 8.

        Raises:
            ValueError: its values have no fixed range, or it is smaller than the crop.
        """
        if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
            kind = "floats" if image.mode == "F" else "32-bit integers"
            raise ValueError(f"its pixels are {kind}, whose range is not known. Convert it to 8 or 16 bits")
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I;16", "I")):  # 16 bits a pixel: Pillow would clip them, not scale them
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.crop != "none":
            side = min(image.size) if self.crop == "center" else int(self.crop)
            if side > min(image.size):
                raise ValueError(f"{image.width}×{image.height} pixels, fewer than data.crop={self.crop}")
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        if self.size is not None and image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        array = np.asarray(image)
        return array[:, :, None] if self.channels == 1 else array


def image_blocks(
    files: Archive, names: Sequence[str], preprocessing: Preprocessing, labels: Sequence[int] | None, skip_corrupt: bool
) -> Iterator[Block]:
    """Decode images and yield them in blocks, in the order of their names.

    Args:
        files: where they are.
        names: which ones.
        preprocessing: what is done to each.
        labels: one per image, or None.
        skip_corrupt: if true, images that cannot be decoded are skipped with a warning; otherwise they are an error.

    Raises:
        DataError: there are no images, some cannot be decoded (they are named), or they have different sizes.
    """
    if not names:
        raise DataError(f"{files.key}={files.root}: no images there ({', '.join(sorted(EXTENSIONS))})")
    large_image = Lock()

    def decode(content: bytes) -> np.ndarray | str:
        """Return the preprocessed image, or why it cannot be decoded: as text, because an error keeps the content."""
        if not content:
            return "the file is empty"
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS:  # only the header has been read so far
                    raise ValueError(f"{image.width}×{image.height}, more than {MAX_PIXELS:,} pixels")
                with large_image if pixels > LARGE_PIXELS else nullcontext():
                    return preprocessing(image)
        except UnidentifiedImageError:  # its message has an address in memory
            return "not an image, or its beginning is damaged"
        except Exception as error:  # Pillow raises many kinds
            return str(error)

    corrupt: dict[str, str] = {}
    sizes: set[tuple[int, ...]] = set()
    images: list[np.ndarray] = []
    numbers: list[int] = []

    def block() -> Block:
        images_NCHW = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return Block(images_NCHW, None if labels is None else torch.tensor([labels[number] for number in numbers]))

    for number, (name, result) in enumerate(files.read_each(names, decode, MAX_IMAGE_BYTES)):
        if isinstance(result, str):
            corrupt[name] = result
            continue
        images.append(result)
        numbers.append(number)
        sizes.add(result.shape)
        if len(sizes) > 1:
            raise DataError(f"{files.key}={files.root}: images of different sizes, {sorted(sizes)}")
        if len(images) * result.nbytes > BLOCK_BYTES:
            yield block()
            images, numbers = [], []
    if images:
        yield block()
    if corrupt:
        _report_corrupt(files.root, corrupt, skip_corrupt)
    if not sizes:
        raise DataError(f"{files.key}={files.root}: none of its {len(corrupt)} images can be decoded")


def read_images(files: Archive, preprocessing: Preprocessing) -> Packed:
    """Return all images of an archive in memory, without labels.

    Raises:
        DataError: there are no images, some cannot be decoded (they are named), or they do not fit in memory.
    """
    names, images, needed = image_names(files.names), [], 0
    for block in image_blocks(files, names, preprocessing, None, skip_corrupt=False):
        images.append(block.images_NCHW)
        needed += block.images_NCHW.nbytes
        if needed > total_memory() / 4:  # `cat` copies them once more
            raise DataError(f"{files.key}={files.root}: {len(names):,} images take too much memory. Use fewer")
    return Packed(torch.cat(images), None, f"{files.root.name}, {preprocessing}")


def _report_corrupt(root: Path, corrupt: dict[str, str], skip: bool) -> None:
    named = "; ".join(f"{root / name} ({reason})" for name, reason in list(corrupt.items())[:5])
    more = f" and {len(corrupt) - 5} more" if len(corrupt) > 5 else ""
    if not skip:
        raise DataError(
            f"cannot decode {named}{more}. Repair or remove these files (data=folder can skip them: "
            "data.skip_corrupt=true)"
        )
    log.warning("skipped %d images that cannot be decoded: %s%s", len(corrupt), named, more)
