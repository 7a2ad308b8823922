"""Sets in CIFAR-10's file format: CIFAR-10 itself, and ImageNet downsampled to 32 pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torchvision import datasets

from mixgan_cli.config.values import PathText
from mixgan_cli.data import pickles
from mixgan_cli.data.archives import MAX_FILE_BYTES, Archive, MultiArchive, damage_errors, load_npy
from mixgan_cli.data.cache import Block, SplitReader, prepare, replace_hint
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.images import Preprocessing, Side, describe_resize, image_blocks, image_names, resize_to
from mixgan_cli.data.locate import PublishedSet, RemoteFile
from mixgan_cli.data.packed import as_labels
from mixgan_cli.errors import DataError

SIDE = 32
"""Pixels a side in the files."""
SPLITS = ("train", "held_out")


class Layout(NamedTuple):
    """How a copy is stored: the function that reads a file (None for image files), and the files of each split."""

    read: Callable[[bytes], tuple[np.ndarray, np.ndarray]] | None
    files: dict[str, list[str]]


class CIFARFormat(PublishedSet[Layout]):
    """Images of 32×32 stored as rows of 3,072 bytes (red, green, blue) with their labels.

    A copy may have the official pickles, the binary version, or .npz files (`data` or `images`, and `labels`), in a
    folder, tar or zip; or image files in a folder per class.
    """

    name: ClassVar[str]
    """The name of the set in the cache."""
    batches: ClassVar[dict[str, Sequence[str]]]
    """The files of each split, without extension."""
    folders: ClassVar[dict[str, str]]
    """The folder of each split, in a copy of image files."""
    first_label: ClassVar[int] = 0

    def __init__(self, root: PathText | None, size: Side, labels: bool) -> None:
        self.root, self.size, self.labels = root, size, labels
        self.shape = (3, size, size)

    def load(self) -> ImageDataset:
        """Return the official split, resized.

        Raises:
            DataError: there is no local copy, or a file is damaged (it is named).
        """
        archive, layout = self.locate()
        recipe = {"set": self.name, "size": self.size, "files": archive.fingerprint(), "layout": layout.files}
        done = describe_resize((SIDE, SIDE), self.size) if layout.read else str(self._preprocessing)
        readers = {
            split: SplitReader(partial(self._blocks, archive, layout, split), f"{self.title}, {done}, {split}")
            for split in SPLITS
        }
        packed = prepare(self.name, recipe, readers)
        return ImageDataset(*(packed[s] if self.labels else packed[s].without_labels() for s in SPLITS))

    def recognise(self, archive: Archive) -> Layout | None:
        """Return the layout of a copy; None if it is another set."""
        for extension, read in READERS.items():
            if archive.find(self.batches["train"][0] + extension):
                return Layout(read, {split: self._find_all(archive, split, extension) for split in SPLITS})
        images = image_names(archive.names)
        files = {split: [n for n in images if self.folders[split] in Path(n).parent.parts] for split in SPLITS}
        return Layout(None, files) if all(files.values()) else None

    def _class_of(self, name: str, split: str) -> str:
        """Return the folder below that of the split: CLASS of train/CLASS/x.png and of train/CLASS/images/x.png."""
        parts = Path(name).parts
        return parts[parts.index(self.folders[split]) + 1]

    @property
    def _preprocessing(self) -> Preprocessing:
        return Preprocessing(self.size, "center", 3)

    def _find_all(self, archive: Archive, split: str, extension: str) -> list[str]:
        found = {name + extension: archive.find(name + extension) for name in self.batches[split]}
        if missing := [name for name, path in found.items() if path is None]:
            raise DataError(f"{archive.root}: {', '.join(missing)} missing. {replace_hint(archive.root)}")
        return [path for path in found.values() if path is not None]

    def _blocks(self, archive: Archive, layout: Layout, split: str) -> Iterator[Block]:
        names = layout.files[split]
        if layout.read is None:
            classes = {each: [self._class_of(name, each) for name in files] for each, files in layout.files.items()}
            known = sorted(set(classes["train"]))
            if unknown := sorted(set(classes[split]) - set(known)):
                train, other = self.folders["train"], self.folders[split]
                raise DataError(
                    f"{archive.root}: {other}/ has the class {', '.join(unknown[:5])}, which {train}/ does not have. "
                    f"Both need a folder per class, such as {other}/{known[0]}"
                )
            labels = [known.index(each) for each in classes[split]]  # the same numbers in both splits
            yield from image_blocks(archive, names, self._preprocessing, labels, False)
            return
        for name, content in archive.read_each(names):
            with damage_errors(archive.root, name):
                rows, numbers = layout.read(content)
                images = torch.from_numpy(np.ascontiguousarray(rows)).view(-1, 3, SIDE, SIDE)
                if images.dtype != torch.uint8 or not len(images):
                    raise ValueError(f"{len(images)} images of {images.dtype}")
                labels_N = as_labels(numbers, len(images), f"{archive.root}: {name}", self.first_label)
            yield Block(resize_to(images, self.size), labels_N)


def _read_pickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in pickles.loads(content).items()}
    rows, labels = batch["data"], batch["labels"]
    if not isinstance(rows, np.ndarray) or not all(isinstance(label, (int, np.integer)) for label in labels):
        raise ValueError("no array of rows, or no list of labels")  # nested lists could become arrays of any size
    return rows, labels


def _read_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * SIDE**2).copy()
    return records[:, 1:], records[:, 0]


def _read_npz(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    with load_npy(io.BytesIO(content), MAX_FILE_BYTES) as arrays:
        images = arrays["data"] if "data" in arrays else arrays["images"]
        if images.ndim == 4 and images.shape[3] == 3:
            images = images.transpose(0, 3, 1, 2)
        return images.reshape(len(images), -1), arrays["labels"]


READERS = {"": _read_pickle, ".bin": _read_binary, ".npz": _read_npz}
"""What reads a file of each extension: (content) → rows [n, 3072] uint8 and labels [n]."""


class CIFAR10(CIFARFormat):
    """50,000 photographs of ten classes to train on, and 10,000 held out (Krizhevsky 2009)."""

    name, title = "cifar10", "CIFAR-10"
    batches: ClassVar = {"train": [f"data_batch_{number}" for number in range(1, 6)], "held_out": ["test_batch"]}
    folders: ClassVar = {"train": "train", "held_out": "test"}
    known_names = (
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        "cifar10",
        "cifar-10",
    )
    remote = (RemoteFile(datasets.CIFAR10.url, datasets.CIFAR10.filename, datasets.CIFAR10.tgz_md5),)
    download_hint = "mixgan fetch data=cifar10 downloads it; or give data.root=FOLDER"

    def recognise(self, archive: Archive) -> Layout | None:
        """Return the layout of a copy; None if it is another set."""
        train, test = archive.find("train.npz"), archive.find("test.npz")
        if train and test:
            return Layout(_read_npz, {"train": [train], "held_out": [test]})
        return super().recognise(archive)


class ImageNet32(CIFARFormat):
    """ImageNet of 2012 at 32 pixels: 1,281,167 images to train on, and 50,000 held out (Chrabaszcz et al. 2017)."""

    name, title = "imagenet32", "ImageNet at 32 px"
    batches: ClassVar = {"train": [f"train_data_batch_{number}" for number in range(1, 11)], "held_out": ["val_data"]}
    folders: ClassVar = {"train": "train", "held_out": "val"}
    known_names = ("imagenet32", "Imagenet32", "Imagenet32_train_npz", "imagenet")
    download_hint = (
        "It needs a licence: log in at image-net.org, download the downsampled images of 32×32 (Imagenet32_train.zip "
        "and Imagenet32_val.zip, Python or npz), put both, or what they contain, into one folder and give "
        "data.root=FOLDER. A folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG works too"
    )
    first_label = 1

    def locate(self) -> tuple[Archive, Layout]:
        """Return the two official archives as one if they are there, or another copy."""
        for place in self._places():
            for folder in (place, *(place / name for name in self.known_names)):
                for suffix in ("", "_npz"):
                    pair = [folder / f"Imagenet32_{split}{suffix}.zip" for split in ("train", "val")]
                    if all(path.is_file() for path in pair):
                        archive = MultiArchive([Archive(path, "data.root") for path in pair])
                        layout = self.recognise(archive)
                        if layout is None:
                            raise DataError(f"{pair[0]}: truncated or damaged, it contains no batches. Fetch it again")
                        return archive, layout
        return super().locate()
