"""STL-10: 100,000 unlabelled photographs of 96×96 (Coates et al. 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torchvision import datasets

from mixgan_cli.config.values import PathText
from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Block, SplitReader, prepare, replace_hint
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.images import Side, describe_resize, resize_to
from mixgan_cli.data.locate import PublishedSet, RemoteFile
from mixgan_cli.data.packed import as_labels
from mixgan_cli.errors import DataError

SIDE = 96
"""Pixels a side in the files."""
IMAGE_BYTES = 3 * SIDE**2
READ_IMAGES = 1000
"""Number of images that are read at once, 28 MB."""
MAX_IMAGES = 100_000
"""Maximum number of images in a file."""
FILES = ("unlabeled_X.bin", "test_X.bin", "test_y.bin")


class STL10(PublishedSet[dict[str, str]]):
    """The unlabelled images to train on, as MGGAN does, and the 8,000 labelled ones of the test set held out.

    A copy has the official binary files, in a folder or in their tar.gz.
    """

    title = "STL-10"
    known_names = ("stl10_binary", "stl10_binary.tar.gz", "stl10")
    remote = (RemoteFile(datasets.STL10.url, datasets.STL10.filename, datasets.STL10.tgz_md5),)
    download_hint = "mixgan fetch data=stl10 downloads it (2.6 GB); or give data.root=FOLDER"

    def __init__(self, root: PathText | None, size: Side, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (3, size, size)

    def load(self) -> ImageDataset:
        """Return the images, resized.

        Raises:
            DataError: there is no local copy, or a file is damaged (it is named).
        """
        archive, paths = self.locate()
        recipe = {"set": "stl10", "size": self.size, "files": archive.fingerprint()}
        words = f"STL-10, {describe_resize((SIDE, SIDE), self.size)}"
        unlabelled, test, labels = (paths[file] for file in FILES)
        readers = {
            "train": SplitReader(partial(self._blocks, archive, unlabelled, None), f"{words}, unlabelled", MAX_IMAGES),
            "held_out": SplitReader(partial(self._blocks, archive, test, labels), f"{words}, test"),
        }
        packed = prepare("stl10", recipe, readers)
        held_out = packed["held_out"]
        return ImageDataset(packed["train"], held_out if self.labels else held_out.without_labels())

    def recognise(self, archive: Archive) -> dict[str, str] | None:
        """Return {file: its path}; None unless all are there."""
        found = {file: archive.find(file) for file in FILES}
        return {file: path for file, path in found.items() if path} if all(found.values()) else None

    def _blocks(self, archive: Archive, images: str, labels: str | None) -> Iterator[Block]:
        labels_N = None
        if labels is not None:
            numbers = np.frombuffer(archive.read(labels), np.uint8)
            labels_N = as_labels(numbers, len(numbers), f"{archive.root}: {labels}", first=1)
        count = 0
        with archive.open(images) as file:
            while content := file.read(READ_IMAGES * IMAGE_BYTES):
                if len(content) % IMAGE_BYTES or count >= MAX_IMAGES:
                    raise DataError(f"{archive.root}: {images}: truncated or damaged. {replace_hint(archive.root)}")
                columns = np.frombuffer(content, np.uint8).reshape(-1, 3, SIDE, SIDE)
                rows = torch.from_numpy(columns.transpose(0, 1, 3, 2).copy())  # the files store column by column
                block = slice(count, count + len(rows))
                yield Block(resize_to(rows, self.size), None if labels_N is None else labels_N[block])
                count += len(rows)
        if labels_N is not None and len(labels_N) != count:
            raise DataError(f"{archive.root}: {labels}: {len(labels_N)} labels for {count} images")
