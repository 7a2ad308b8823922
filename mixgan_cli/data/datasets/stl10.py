"""STL-10: 100,000 unlabelled photographs of 96×96 (Coates et al. 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torchvision import datasets

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Block, Part, Remote, fetch_unless_here, local_copy, prepared
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.images import Side, resized, told
from mixgan_cli.errors import DataError

SIDE = 96
IMAGE = 3 * SIDE**2
AT_A_TIME = 1000
"""Images read in one piece, 28 MB."""
MOST = 100_000
"""Images in a file."""


class STL10:
    """The unlabelled images to train on, as MGGAN; the 8,000 of the test set, which have labels, held out.

    Accepted are the official binary files, in a folder or in their tar.gz.
    """

    usual = ("stl10_binary", "stl10_binary.tar.gz", "stl10")
    remote = (Remote(datasets.STL10.url, datasets.STL10.filename, datasets.STL10.tgz_md5),)

    def __init__(self, root: str | None, size: Side, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (3, size, size)

    def fetch(self) -> None:
        """Download the official archive, unless there is a copy."""
        fetch_unless_here("STL-10", self.root, self.remote, self._copy)

    def load(self) -> ImageDataset:
        """Return the images, resized.

        Raises:
            DataError: there is no local copy, or a file is damaged (named).
        """
        archive, names = self._copy()
        recipe = {"set": "stl10", "size": self.size, "files": archive.fingerprint()}
        words = f"STL-10, {told(SIDE, self.size)}"
        parts = {
            "train": Part(
                partial(self._blocks, archive, names["unlabeled_X.bin"], None), f"{words}, unlabelled", 100_000
            ),
            "held_out": Part(
                partial(self._blocks, archive, names["test_X.bin"], names["test_y.bin"]), f"{words}, test"
            ),
        }
        packed = prepared("stl10", recipe, parts)
        held_out = packed["held_out"]
        return ImageDataset(packed["train"], held_out if self.labels else held_out.without_labels())

    def _copy(self) -> tuple[Archive, dict[str, str]]:
        way_out = "mixgan fetch data=stl10 downloads it (2.6 GB); or give data.root=FOLDER"
        return local_copy("STL-10", self.root, self.usual, _recognise, way_out)

    def _blocks(self, archive: Archive, images: str, labels: str | None) -> Iterator[Block]:
        classes = None
        if labels is not None:
            classes = torch.from_numpy(np.frombuffer(archive.read(labels), np.uint8).astype(np.int64)) - 1
        count = 0
        with archive.open(images) as file:
            while content := file.read(AT_A_TIME * IMAGE):
                if len(content) % IMAGE or count >= MOST:
                    raise DataError(f"{archive.root}: {images}: truncated or damaged. Delete it and fetch it again")
                columns = np.frombuffer(content, np.uint8).reshape(-1, 3, SIDE, SIDE)
                rows = torch.from_numpy(columns.transpose(0, 1, 3, 2).copy())  # the files go down each column first
                block = slice(count, count + len(rows))
                yield Block(resized(rows, self.size), None if classes is None else classes[block])
                count += len(rows)
        if classes is not None and len(classes) != count:
            raise DataError(f"{archive.root}: {labels}: {len(classes)} labels for {count} images")


def _recognise(archive: Archive) -> dict[str, str] | None:
    found = {name: archive.find(name) for name in ("unlabeled_X.bin", "test_X.bin", "test_y.bin")}
    return {name: path for name, path in found.items() if path} if all(found.values()) else None
