"""Images from a NumPy file of the user's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.config.values import PathText
from mixgan_cli.data.archives import load_npy
from mixgan_cli.data.dataset import ImageDataset, name_of_files, random_split
from mixgan_cli.data.images import Side, describe_resize, resize_to
from mixgan_cli.data.packed import Packed, as_labels
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.device import total_memory

log = logging.getLogger("mixgan")


class Arrays:
    """Images from a .npy or .npz file: uint8, [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3."""

    def __init__(
        self, root: PathText, images: str, size: Side | None, held_out: int | float, split_seed: int, labels: bool
    ) -> None:
        self.root, self.images, self.size = root, images, size
        self.held_out, self.split_seed, self.labels = held_out, split_seed, labels

    @staticmethod
    def own_name(arguments: Mapping[str, Any]) -> str | None:
        """Return the name of a set without a `name`: that of its file."""
        return name_of_files(arguments.get("root"))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one preprocessed image, (C, H, W)."""
        channels, height, width = self._images_NCHW.shape[1:]
        return (channels, self.size or height, self.size or width)

    def load(self) -> ImageDataset:
        """Return the images, resized if `size` is given.

        Raises:
            DataError: the file is missing or damaged, has no array of images, or its labels are not usable.
        """
        images, words = self._images_NCHW, "as they are"
        if self.size is not None:
            images, words = resize_to(images, self.size), describe_resize(images.shape[-2:], self.size)
        if self.labels and Path(self.root).suffix != ".npz":
            raise DataError(
                f"data.labels=true: {self.root} holds one array; labels need an .npz file with an array `labels`"
            )
        labels = None
        if self.labels:
            labels = as_labels(read_array(Path(self.root), "labels"), len(images), f"data.labels=true: {self.root}")
        packed = Packed(images, labels, f"{Path(self.root).name}, {words}")
        return random_split(packed, self.held_out, self.split_seed)

    @cached_property
    def _images_NCHW(self) -> Tensor:
        return array_images(Path(self.root), self.images)


def array_images(path: Path, name: str) -> Tensor:
    """Return the images uint8 [N, C, H, W] in a .npy file, or in the array `name` of an .npz file.

    If there is no such array, but one alone (or one next to `labels`), it is taken.

    Raises:
        DataError: the file is missing or damaged, or has no array of images.
    """
    return as_images(read_array(path, name, or_only=True), path)


def read_array(path: Path, name: str, or_only: bool = False) -> np.ndarray:
    """Return the array of a .npy file, or the array `name` of an .npz file.

    If `or_only`, an array of another name is returned if it is the only one besides `labels`.

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
            others = [key for key in loaded if key != "labels"]
            if name not in loaded and or_only and len(others) == 1:
                log.info("%s: no array %r; using the only one, %r", path, name, others[0])
                return loaded[others[0]]
            if name not in loaded:
                raise DataError(f"{path}: no array {name!r}; there is {', '.join(loaded)}")
            return loaded[name]
    except DataError:
        raise
    except Exception as error:  # readers of damaged files raise many kinds
        raise DataError(f"{path}: not a .npy or .npz of numbers, or damaged ({error})") from error


def as_images(array: np.ndarray, path: str | Path) -> Tensor:
    """Return uint8 images [N, C, H, W] from an array with channels first, last or absent.

    Raises:
        DataError: the array has another type or shape, or its shape has more than one meaning.
    """
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise DataError(f"{path}: images must be uint8 (0…255), not {array.dtype}")
    if array.ndim == 3 and (shape[0] == 3 or (shape[2] in (1, 3, 4) and shape[1] != shape[2])):
        raise DataError(
            f"{path}: {shape} may be a single picture. Images must be [N, H, W], [N, H, W, C] or [N, C, H, W]; "
            "images[None] adds the first axis, images[:, None] that of grey images"
        )
    if array.ndim == 4 and shape[1] in (1, 3) and shape[3] in (1, 3):
        raise DataError(f"{path}: {shape} may be [N, H, W, C] or [N, C, H, W]; images this narrow cannot be read")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(f"{path}: images must be [N, H, W], [N, H, W, C] or [N, C, H, W], not {shape}")
    if not array.size:
        raise DataError(f"{path}: no images, an array {shape}")
    return torch.from_numpy(np.ascontiguousarray(array))


def convert_channels(images_NCHW: Tensor, channels: int) -> Tensor:
    """Return uint8 images [N, 1 or 3, H, W]: grey is repeated, colour becomes grey as in Pillow (ITU-R 601)."""
    if images_NCHW.shape[1] == channels:
        return images_NCHW
    if channels == 3:
        return images_NCHW.expand(-1, 3, -1, -1)
    red, green, blue = images_NCHW.int().unbind(dim=1)
    grey = (red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16  # Pillow's fixed-point weights
    return grey.to(torch.uint8).unsqueeze(1)
