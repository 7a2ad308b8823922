"""Sets that come as files of flat batches: CIFAR-10, and ImageNet downsampled to 32 pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torchvision import datasets

from mixgan_cli.data import pickles
from mixgan_cli.data.archives import MOST_BYTES, Archive, Together, load_npy
from mixgan_cli.data.cache import Block, Part, Remote, fetch_unless_here, local_copy, looked_through, prepared
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.images import EXTENSIONS, Preprocessing, Side, image_blocks, resized, told
from mixgan_cli.errors import DataError

SIDE = 32


class Layout(NamedTuple):
    """How a copy keeps its images: what reads a file, and the files of each part; or of image files, their folders."""

    read: Callable[[bytes], tuple[np.ndarray, np.ndarray]] | None
    files: dict[str, list[str]]


class FlatBatches:
    """Images of 32×32 in files of rows of 3,072 bytes, red, green, blue, with their labels.

    Accepted are the official pickles, the binary version, .npz files (`data` or `images`, and `labels`), each in a
    folder, a tar or a zip; and folders of image files by class.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    batches: ClassVar[dict[str, Sequence[str]]]
    """The files of each part, without their endings."""
    folders: ClassVar[dict[str, str]]
    """The folders of each part, where it comes as image files."""
    usual: ClassVar[Sequence[str]]
    """Folders and archives it comes in."""
    remote: ClassVar[Sequence[Remote]] = ()
    way_out: ClassVar[str]
    first_label: ClassVar[int] = 0

    def __init__(self, root: str | None, size: Side, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (3, size, size)

    def fetch(self) -> None:
        """Download the official archive, unless there is a copy."""
        fetch_unless_here(self.title, self.root, self.remote, self._copy)

    def load(self) -> ImageDataset:
        """Return the official split, resized.

        Raises:
            DataError: there is no local copy, or a file is damaged (named).
        """
        archive, layout = self._copy()
        recipe = {"set": self.name, "size": self.size, "files": archive.fingerprint(), "layout": layout.files}
        words = f"{self.title}, {told(SIDE, self.size)}"
        if layout.read is None:
            words = f"{self.title}, {Preprocessing(self.size, 'center', 3)}"
        parts = {part: Part(partial(self._blocks, archive, layout, part), f"{words}, {part}") for part in layout.files}
        packed = prepared(self.name, recipe, parts)
        return ImageDataset(*(packed[part].without_labels() if not self.labels else packed[part] for part in PARTS))

    def _copy(self) -> tuple[Archive, Layout]:
        return local_copy(self.title, self.root, self.usual, self._recognise, self.way_out)

    def _recognise(self, archive: Archive) -> Layout | None:
        first = self.batches["train"][0]
        for ending, read in READERS.items():
            if archive.find(first + ending):
                return Layout(read, {part: self._all(archive, part, ending) for part in PARTS})
        pictures = [name for name in archive.names if Path(name).suffix.lower() in EXTENSIONS]
        files = {part: [n for n in pictures if self.folders[part] in Path(n).parent.parts] for part in PARTS}
        return Layout(None, files) if all(files.values()) else None

    def _all(self, archive: Archive, part: str, ending: str) -> list[str]:
        found = {name: archive.find(name + ending) for name in self.batches[part]}
        missing = [name + ending for name, path in found.items() if path is None]
        if missing:
            raise DataError(f"{archive.root}: {', '.join(missing)} missing. Delete it and fetch it again")
        return [path for path in found.values() if path is not None]

    def _blocks(self, archive: Archive, layout: Layout, part: str) -> Iterator[Block]:
        names = layout.files[part]
        if layout.read is None:
            kinds = {Path(name).parent.name for files in layout.files.values() for name in files}
            numbers = {kind: number for number, kind in enumerate(sorted(kinds))}  # the same in both parts
            labels = [numbers[Path(name).parent.name] for name in names]
            yield from image_blocks(archive, names, Preprocessing(self.size, "center", 3), labels, False)
            return
        for name, content in archive.each(names):
            try:
                rows, classes = layout.read(content)
                images = torch.from_numpy(np.ascontiguousarray(rows)).view(-1, 3, SIDE, SIDE)
                known = torch.from_numpy(np.asarray(classes, dtype=np.int64)) - self.first_label
                if images.dtype != torch.uint8 or len(images) != len(known) or not len(images):
                    raise ValueError(f"{len(images)} images of {images.dtype}, {len(known)} labels")
            except Exception as error:  # whatever a reader stumbles over, it is the file that is wrong
                raise DataError(
                    f"{archive.root}: {name}: truncated or damaged ({type(error).__name__}: {error}). "
                    "Delete it and fetch it again"
                ) from error
            yield Block(resized(images, self.size), known)


PARTS = ("train", "held_out")


def _pickled(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in pickles.loads(content).items()}
    rows, labels = batch["data"], batch["labels"]
    if not isinstance(rows, np.ndarray) or not all(isinstance(label, (int, np.integer)) for label in labels):
        raise ValueError("no rows of numbers, or no list of labels")  # lists of lists may stand for any number of them
    return rows, labels


def _binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * SIDE**2).copy()
    return records[:, 1:], records[:, 0]


def _arrays(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    with load_npy(io.BytesIO(content), MOST_BYTES) as arrays:
        images = arrays["data"] if "data" in arrays else arrays["images"]
        if images.ndim == 4 and images.shape[3] == 3:
            images = images.transpose(0, 3, 1, 2)
        return images.reshape(len(images), -1), arrays["labels"].reshape(-1)


READERS = {"": _pickled, ".bin": _binary, ".npz": _arrays}


class CIFAR10(FlatBatches):
    """50,000 photographs of ten classes to train on, 10,000 held out (Krizhevsky 2009)."""

    name, title = "cifar10", "CIFAR-10"
    batches: ClassVar = {"train": [f"data_batch_{number}" for number in range(1, 6)], "held_out": ["test_batch"]}
    folders: ClassVar = {"train": "train", "held_out": "test"}
    usual = (
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        "cifar10",
        "cifar-10",
    )
    remote = (Remote(datasets.CIFAR10.url, datasets.CIFAR10.filename, datasets.CIFAR10.tgz_md5),)
    way_out = "mixgan fetch data=cifar10 downloads it; or give data.root=FOLDER"

    def _recognise(self, archive: Archive) -> Layout | None:
        train, test = archive.find("train.npz"), archive.find("test.npz")
        if train and test:
            return Layout(_arrays, {"train": [train], "held_out": [test]})
        return super()._recognise(archive)


class ImageNet32(FlatBatches):
    """ImageNet of 2012 at 32 pixels (Chrabaszcz et al. 2017): 1,281,167 images to train on, 50,000 held out."""

    name, title = "imagenet32", "ImageNet at 32 px"
    batches: ClassVar = {"train": [f"train_data_batch_{number}" for number in range(1, 11)], "held_out": ["val_data"]}
    folders: ClassVar = {"train": "train", "held_out": "val"}
    usual = ("imagenet32", "Imagenet32", "Imagenet32_train_npz", "imagenet")
    way_out = (
        "It needs a licence: log in at image-net.org, take the downsampled images of 32×32 (Imagenet32_train.zip and "
        "Imagenet32_val.zip, Python or npz), put both, or what is in them, into one folder and give data.root=FOLDER; "
        "a folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG serves too"
    )
    first_label = 1

    def _copy(self) -> tuple[Archive, Layout]:
        """As any copy; or the official two archives, in data.root or where else a copy is looked for."""
        for folder in looked_through(self.root, self.usual):
            for ending in ("", "_npz"):
                pair = [folder / f"Imagenet32_{part}{ending}.zip" for part in ("train", "val")]
                if all(path.is_file() for path in pair):
                    both = Together([Archive(path, "data.root") for path in pair])
                    layout = self._recognise(both)
                    if layout is None:
                        raise DataError(f"{pair[0]}: truncated or damaged, no batches in it. Fetch it again")
                    return both, layout
        return super()._copy()
