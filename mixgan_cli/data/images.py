"""Image files in a folder or a zip, of any mode and size, decoded to one array."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError

log = logging.getLogger("mixgan")

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
Crop = Literal["center", "none"] | int


class ImageFiles:
    """The image files below a folder, or in a zip, by name. `key` is what the user calls the root.

    Raises:
        DataError: there is no such folder or zip, or no image in it.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.root, self.key = root, key
        if not root.exists():
            raise DataError(f"{key}={root}: there is no such folder or zip")
        if root.is_file() and not zipfile.is_zipfile(root):
            raise DataError(f"{key}={root}: neither a folder nor a zip")
        if not self.names:
            raise DataError(f"{key}={root}: no images there ({', '.join(sorted(EXTENSIONS))})")

    @cached_property
    def names(self) -> list[str]:
        """The images' paths below the root, sorted."""
        if self._zip is not None:
            every: Iterable[str] = self._zip.namelist()
        else:
            every = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return sorted(name for name in every if Path(name).suffix.lower() in EXTENSIONS and not _hidden(name))

    def read(self, name: str) -> bytes:
        """Return the file's bytes."""
        return self._zip.read(name) if self._zip is not None else (self.root / name).read_bytes()

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return zipfile.ZipFile(self.root) if self.root.is_file() else None


def read_images(
    files: ImageFiles, size: int | None, crop: Crop, channels: int, labels: bool, skip_corrupt: bool
) -> Packed:
    """Decode every image, crop and resize it (bilinear with antialiasing), and pack them.

    Args:
        files: which ones.
        size: pixels a side; None keeps each as it is (they must then be of one size).
        crop: "center" for the largest centred square, "none" to stretch, or the side of a centred square in pixels.
        channels: 1 for grey, 3 for colour.
        labels: whether to keep the name of each image's folder as its label, numbered in alphabetical order.
        skip_corrupt: whether images that cannot be decoded are left out (and named in the log) instead of an error.

    Raises:
        DataError: naming the images that cannot be decoded.
    """

    def decode(name: str) -> np.ndarray | Exception:
        try:
            with Image.open(io.BytesIO(files.read(name))) as image:
                return _prepared(image, size, crop, channels)
        except Exception as error:  # Pillow raises many kinds; each means this file cannot be used
            return error

    with ThreadPoolExecutor() as pool:
        decoded = dict(zip(files.names, pool.map(decode, files.names), strict=True))
    corrupt = {name: error for name, error in decoded.items() if isinstance(error, Exception)}
    if corrupt:
        _report(files.root, corrupt, skip_corrupt)  # raises, unless they are to be left out
    arrays = {name: array for name, array in decoded.items() if isinstance(array, np.ndarray)}
    if not arrays:
        raise DataError(f"{files.key}={files.root}: not one of {len(corrupt)} images can be decoded")
    sizes = {array.shape for array in arrays.values()}
    if len(sizes) > 1:
        raise DataError(f"{files.key}={files.root}: images of {len(sizes)} different sizes")
    images = torch.from_numpy(np.stack(list(arrays.values()))).permute(0, 3, 1, 2).contiguous()
    cropped = {"center": "centre crop, ", "none": ""}.get(str(crop), f"centre crop {crop} px, ")
    preprocessing = f"{cropped}{f'bilinear to {size} px' if size else 'as they are'}"
    return Packed(images, _folder_labels(arrays) if labels else None, f"{files.root.name}, {preprocessing}")


def _prepared(image: Image.Image, size: int | None, crop: Crop, channels: int) -> np.ndarray:
    """Return [H, W, C] uint8."""
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


def _folder_labels(names: Iterable[str]) -> torch.Tensor:
    parents = [Path(name).parent.as_posix() for name in names]
    classes = {name: number for number, name in enumerate(sorted(set(parents)))}
    return torch.tensor([classes[parent] for parent in parents])


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)
