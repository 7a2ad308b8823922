"""A data set from a NumPy file of the user's own."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.data.archives import load_npy
from mixgan_cli.data.dataset import ImageDataset, split_off
from mixgan_cli.data.images import Side, resized, told
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.device import total_memory


class Arrays:
    """Images from a .npy or .npz file: uint8, [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3."""

    def __init__(
        self, root: str, images: str, size: Side | None, held_out: int | float, split_seed: int, labels: bool
    ) -> None:
        self.root, self.images, self.size = root, images, size
        self.held_out, self.split_seed, self.labels = held_out, split_seed, labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, as it will be prepared."""
        channels, height, width = self._images_NCHW.shape[1:]
        return (channels, self.size or height, self.size or width)

    def load(self) -> ImageDataset:
        """Return the images, resized where a size is given.

        Raises:
            DataError: the file is missing, damaged, or holds no such array of images.
        """
        images, words = self._images_NCHW, "as they are"
        if self.size is not None:
            images, words = resized(images, self.size), told(images.shape[-1], self.size)
        if self.labels and Path(self.root).suffix != ".npz":
            raise DataError(
                f"data.labels=true: {self.root} holds one array; labels take an .npz with an array `labels`"
            )
        labels = torch.from_numpy(self._array("labels").astype(np.int64)) if self.labels else None
        packed = Packed(images, labels, f"{Path(self.root).name}, {words}")
        return split_off(packed, self.held_out, self.split_seed)

    @cached_property
    def _images_NCHW(self) -> Tensor:
        return as_images(self._array(self.images), self.root)

    def _array(self, name: str) -> np.ndarray:
        return read_array(Path(self.root), name)


def read_array(path: Path, name: str) -> np.ndarray:
    """Return the array of a .npy file, or the one called `name` of an .npz file.

    Raises:
        DataError: the file is missing or damaged, or there is no such array.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        loaded = load_npy(path, total_memory() // 2)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if name not in loaded:
                raise DataError(f"{path}: no array {name!r}; there is {', '.join(loaded)}")
            return loaded[name]
    except DataError:
        raise
    except Exception as error:  # whatever the reader stumbles over, it is the file that is wrong
        raise DataError(f"{path}: not a .npy or .npz of numbers, or damaged ({error})") from error


def as_images(array: np.ndarray, path: str | Path) -> Tensor:
    """Return uint8 images [N, C, H, W] from an array with channels first, last or absent.

    Raises:
        DataError: the array has another type or shape.
    """
    if array.dtype != np.uint8:
        raise DataError(f"{path}: images should be uint8 (0…255), not {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(f"{path}: images should be [N, H, W], [N, H, W, C] or [N, C, H, W], not {list(array.shape)}")
    return torch.from_numpy(np.ascontiguousarray(array))


def convert_channels(images_NCHW: Tensor, channels: int) -> Tensor:
    """Return uint8 images [N, 1 or 3, H, W]: grey repeated, or colour weighted to grey as Pillow does."""
    if images_NCHW.shape[1] == channels:
        return images_NCHW
    if channels == 3:
        return images_NCHW.expand(-1, 3, -1, -1)
    red, green, blue = images_NCHW.int().unbind(dim=1)
    grey = (red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16  # ITU-R 601, in Pillow's fixed point
    return grey.to(torch.uint8).unsqueeze(1)
