"""Image files in any folder, and the published sets that come as image files: UT Zappos50K and Flowers-102."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torchvision import datasets

from mixgan_cli.config.values import PathText
from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import SplitReader, prepare
from mixgan_cli.data.dataset import ImageDataset, name_of_files, random_split
from mixgan_cli.data.images import Crop, Preprocessing, Side, image_blocks, image_names
from mixgan_cli.data.locate import PublishedSet, RemoteFile
from mixgan_cli.data.packed import checksum
from mixgan_cli.errors import DataError
from mixgan_cli.runtime.reading import real_path

log = logging.getLogger("mixgan")


class Folder:
    """Image files in a folder, zip or tar, searched recursively. They are decoded, cropped and resized once.

    Args:
        root: the folder or archive.
        size: pixels a side.
        crop: center: the largest centred square; none: stretch; or the side of a centred square in pixels.
        channels: 1 for grey, 3 for colour.
        held_out: number of held-out images, or their share if it is below 1.
        split_seed: seed of the random split.
        labels: whether to keep the labels.
        skip_corrupt: if true, images that cannot be decoded are skipped; otherwise they are an error.
    """

    n_images: ClassVar[int | None] = None
    """Number of images in a complete set, if it is known."""

    def __init__(
        self,
        root: PathText | None,
        size: Side,
        crop: Crop,
        channels: Literal[1, 3],
        held_out: int | float,
        split_seed: int,
        labels: bool,
        skip_corrupt: bool,
    ) -> None:
        self.root, self.preprocessing = root, Preprocessing(size, crop, channels)
        self.held_out, self.split_seed, self.labels, self.skip_corrupt = held_out, split_seed, labels, skip_corrupt
        self.shape = (channels, size, size)

    @staticmethod
    def own_name(arguments: Mapping[str, Any]) -> str | None:
        """Return the name of a set without a `name`: that of its folder or archive."""
        return name_of_files(arguments.get("root"))

    def load(self) -> ImageDataset:
        """Return the images, cropped and resized.

        Raises:
            DataError: there are no images, or some cannot be decoded (they are named).
        """
        archive, names = self.locate()
        title = self.title_of(archive)
        if self.n_images not in (None, len(names)):
            log.warning("warning: %s has %s images, this copy has %s", title, f"{self.n_images:,}", f"{len(names):,}")
        if left_out := archive.left_out(names):
            log.info("%s: %s images; not used: %s", archive.root, f"{len(names):,}", left_out)
        labels = self.labels_of(archive, names) if self.labels else None
        name = type(self).__name__
        recipe = {
            "set": name,
            "files": archive.fingerprint(),
            "treatment": str(self.preprocessing),
            "channels": self.preprocessing.channels,
            "labels": labels is not None and checksum(torch.tensor(labels)),  # they may come from another file
            "skip_corrupt": self.skip_corrupt,
        }
        blocks = partial(image_blocks, archive, names, self.preprocessing, labels, self.skip_corrupt)
        reader = SplitReader(blocks, f"{title}, {self.preprocessing}", len(names))
        packed = prepare(name.lower(), recipe, {"all": reader})["all"]
        return random_split(packed, self.held_out, self.split_seed)

    def reads(self, path: Path) -> bool:
        """Return whether pictures in a folder would be images of this set: it is below `root`."""
        return self.root is not None and real_path(path).is_relative_to(real_path(Path(self.root)))

    def locate(self) -> tuple[Archive, list[str]]:
        """Return the archive and the names of its images. Raises DataError if there is no such archive."""
        archive = _ImageArchive(Path(str(self.root)), "data.root")
        return archive, archive.names

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return the labels of the images: the number of the folder that each is in."""
        return folder_labels(names)

    def title_of(self, archive: Archive) -> str:
        """Return the name of the set in protocols."""
        return archive.root.name


class _ImageArchive(Archive):
    """An archive that lists images only, so that other files do not change its fingerprint."""

    @cached_property
    def names(self) -> list[str]:
        return image_names(super().names)


def folder_labels(names: Sequence[str], above: int = 0) -> list[int]:
    """Return for each file the number of its folder, or of the folder `above` levels higher, in alphabetical order.

    If all these folders have one name, such as `images` in CLASS/images, those above them are the classes.
    """
    folders = [Path(name).parents[min(above, len(Path(name).parents) - 1)].as_posix() for name in names]
    if len(set(folders)) > 1 and len({Path(folder).name for folder in folders}) == 1:
        return folder_labels(names, above + 1)
    numbers = {name: number for number, name in enumerate(sorted(set(folders)))}
    return [numbers[name] for name in folders]


class PublishedFolder(PublishedSet[list[str]], Folder):
    """A published set of image files. For the arguments see `Folder`."""

    def recognise(self, archive: Archive) -> list[str] | None:
        """Return the names of the set's images; None if there are none."""
        return image_names(archive.names) or None

    def title_of(self, archive: Archive) -> str:
        """Return the name of the set in protocols."""
        return self.title


class UTZap50K(PublishedFolder):
    """50,025 catalogue pictures of shoes (Yu & Grauman 2014). The label is one of four categories."""

    title, n_images = "UT Zappos50K", 50_025
    known_names = (
        "ut-zap50k-images-square",
        "ut-zap50k-images-square.zip",
        "ut-zap50k-images",
        "ut-zap50k-images.zip",
        "utzap50k",
    )
    download_hint = (
        "Download ut-zap50k-images-square.zip from vision.cs.utexas.edu/projects/finegrained/utzap50k (academic, "
        "non-commercial use) and give data.root=FILE"
    )

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return the number of each picture's category, which is the folder above those of its kind and brand."""
        return folder_labels(names, above=2)


class Flowers102(PublishedFolder):
    """8,189 photographs of 102 kinds of flowers (Nilsback & Zisserman 2008). The label is the kind."""

    title, n_images = "Flowers-102", 8_189
    known_names = ("flowers-102", "flowers102", "102flowers", "102flowers.tgz", "flowers-102/102flowers.tgz")
    remote = tuple(  # the labels first, because a copy counts as one as soon as it has the images
        RemoteFile(f"{datasets.Flowers102._download_url_prefix}{file}", f"flowers-102/{file}", md5)
        for file, md5 in (datasets.Flowers102._file_dict["label"], datasets.Flowers102._file_dict["image"])
    )
    download_hint = (
        "mixgan fetch data=flowers102 downloads it; or give data.root=FOLDER, with jpg/*.jpg or 102flowers.tgz"
    )

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return the kind of each flower, 0 to 101, from imagelabels.mat in the archive or next to it.

        Raises:
            DataError: there is no such file, or it does not have the labels of these images.
        """
        from scipy.io import loadmat  # imported here because it takes time

        inside, outside = archive.find("imagelabels.mat"), archive.root.parent / "imagelabels.mat"
        if inside is None and not outside.is_file():
            raise DataError(
                f"data.labels=true: no imagelabels.mat in {archive.root} or next to it. Add it, or set "
                "data.labels=false"
            )
        source, name = (archive, inside) if inside else (Archive(outside.parent, "data.root"), outside.name)
        try:
            kinds = loadmat(io.BytesIO(source.read(name, 2**16)))["labels"].reshape(-1)
            return [int(kinds[int(Path(image).stem.rpartition("_")[2]) - 1]) - 1 for image in names]  # image_00001.jpg
        except Exception as error:  # readers of damaged files raise many kinds
            raise DataError(f"{source.root}: {name}: not the labels of these images ({error})") from error
