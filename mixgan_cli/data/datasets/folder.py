"""Sets that come as image files: any folder or archive, UT Zappos50K and Flowers-102."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torchvision import datasets

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Part, Remote, fetch_unless_here, local_copy, prepared
from mixgan_cli.data.dataset import ImageDataset, split_off
from mixgan_cli.data.images import EXTENSIONS, Crop, ImageFiles, Preprocessing, Side, folder_labels, image_blocks
from mixgan_cli.data.packed import checksum
from mixgan_cli.errors import DataError

log = logging.getLogger("mixgan")


class Photos:
    """Image files, decoded, cropped and resized once.

    Args:
        root: where they are.
        size: pixels a side.
        crop: center: the largest centred square; none: stretch; or the pixels of a centred square.
        channels: 1 for grey, 3 for colour.
        held_out: how many images are held out, or which share of them.
        split_seed: which ones.
        labels: whether to keep the labels.
        skip_corrupt: whether images that cannot be decoded are left out instead of an error.
    """

    title: ClassVar[str]
    expected: ClassVar[int | None] = None
    """How many images the whole set has."""

    def __init__(
        self,
        root: str | None,
        size: Side,
        crop: Crop,
        channels: Literal[1, 3],
        held_out: int | float,
        split_seed: int,
        labels: bool,
        skip_corrupt: bool,
    ) -> None:
        self.root, self.treatment = root, Preprocessing(size, crop, channels)
        self.held_out, self.split_seed, self.labels, self.skip_corrupt = held_out, split_seed, labels, skip_corrupt
        self.shape = (channels, size, size)

    def load(self) -> ImageDataset:
        """Return the images, cropped and resized.

        Raises:
            DataError: there are none, or an image is corrupt (named).
        """
        archive, names = self.copy()
        if self.expected and len(names) != self.expected:
            log.warning("warning: %s has %s images, here are %s", self.title, f"{self.expected:,}", f"{len(names):,}")
        labels = self.labels_of(archive, names) if self.labels else None
        recipe = {
            "set": type(self).__name__,
            "files": archive.fingerprint(),
            "treatment": str(self.treatment),
            "channels": self.treatment.channels,
            "labels": labels is not None and checksum(torch.tensor(labels)),  # perhaps of a file beside
            "skip_corrupt": self.skip_corrupt,
        }
        blocks = partial(image_blocks, archive, names, self.treatment, labels, self.skip_corrupt)
        part = Part(blocks, f"{self.title_of(archive)}, {self.treatment}", len(names))
        packed = prepared(type(self).__name__.lower(), recipe, {"all": part})
        return split_off(packed["all"], self.held_out, self.split_seed)

    def copy(self) -> tuple[Archive, list[str]]:
        """Return where the images are, and their names. Raises DataError where there are none."""
        raise NotImplementedError

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return the images' labels: here the folder each is in."""
        return folder_labels(names)

    def title_of(self, archive: Archive) -> str:
        """Return the set's name for its description."""
        return self.title


class Folder(Photos):
    """Any folder, zip or tar of images, searched recursively."""

    title = "folder"

    def copy(self) -> tuple[Archive, list[str]]:
        """Return where the images are, and their names. Raises DataError where there are none."""
        files = ImageFiles(Path(str(self.root)), "data.root")
        return files, files.names

    def title_of(self, archive: Archive) -> str:
        """Return the folder's name."""
        return archive.root.name


class KnownPhotos(Photos):
    """A set that has a name: found where it usually is."""

    usual: ClassVar[Sequence[str]]
    remote: ClassVar[Sequence[Remote]] = ()
    way_out: ClassVar[str]

    def copy(self) -> tuple[Archive, list[str]]:
        """Return where the images are, and their names. Raises DataError where there are none."""
        return local_copy(self.title, self.root, self.usual, self.recognise, self.way_out)

    def fetch(self) -> None:
        """Download the set, unless there is a copy.

        Raises:
            DataError: it cannot be downloaded; with the steps to take.
        """
        fetch_unless_here(self.title, self.root, self.remote, self.copy)

    def recognise(self, archive: Archive) -> list[str] | None:
        """Return the names of the set's images, or None."""
        return [name for name in archive.names if Path(name).suffix.lower() in EXTENSIONS] or None


class UTZap50K(KnownPhotos):
    """50,025 catalogue pictures of shoes (Yu & Grauman 2014). A label is one of four categories."""

    title, expected = "UT Zappos50K", 50_025
    usual = (
        "ut-zap50k-images-square",
        "ut-zap50k-images-square.zip",
        "ut-zap50k-images",
        "ut-zap50k-images.zip",
        "utzap50k",
    )
    way_out = (
        "By hand: ut-zap50k-images-square.zip from vision.cs.utexas.edu/projects/finegrained/utzap50k (academic, "
        "non-commercial use), and data.root=FILE"
    )

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return the number of each picture's category, the folder above its brand's and kind's."""
        return folder_labels(names, above=2)


class Flowers102(KnownPhotos):
    """8,189 photographs of 102 kinds of flowers (Nilsback & Zisserman 2008)."""

    title, expected = "Flowers-102", 8_189
    usual = ("flowers-102", "flowers102", "102flowers", "102flowers.tgz", "flowers-102/102flowers.tgz")
    remote = tuple(  # the labels first: a copy is one as soon as it has the images
        Remote(f"{datasets.Flowers102._download_url_prefix}{file}", f"flowers-102/{file}", md5)
        for file, md5 in (datasets.Flowers102._file_dict["label"], datasets.Flowers102._file_dict["image"])
    )
    way_out = "mixgan fetch data=flowers102 downloads it; or give data.root=FOLDER, with jpg/*.jpg or 102flowers.tgz"

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return the kind of each flower, 0 to 101, from imagelabels.mat in the folder or beside it.

        Raises:
            DataError: there is no such file.
        """
        from scipy.io import loadmat  # here, for it takes time to import

        inside = archive.find("imagelabels.mat")
        beside = archive.root.parent / "imagelabels.mat"
        if inside is None and not beside.is_file():
            raise DataError(f"data.labels=true: no imagelabels.mat in {archive.root} or beside it; take false")
        source, name = (archive, inside) if inside else (Archive(beside.parent, "data.root"), beside.name)
        try:
            kinds = loadmat(io.BytesIO(source.read(name, 2**16)))["labels"].reshape(-1)
            return [int(kinds[int(Path(image).stem.rpartition("_")[2]) - 1]) - 1 for image in names]  # image_00001.jpg
        except Exception as error:  # whatever the reader stumbles over, it is the file that is wrong
            raise DataError(f"{source.root}: {name}: not the labels of these images ({error})") from error
