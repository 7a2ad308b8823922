"""CelebA: aligned photographs of faces (Liu et al. 2015)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from torchvision import datasets

from mixgan_cli.config.values import PathText
from mixgan_cli.data.archives import Archive
from mixgan_cli.data.datasets.folder import PublishedFolder
from mixgan_cli.data.images import Crop, Side
from mixgan_cli.data.locate import RemoteFile
from mixgan_cli.errors import DataError

MAX_LIST_BYTES = 2**26
"""Maximum size of a list of attributes [bytes]; CelebA's has 26 million."""
FACE = re.compile(r"\d{6}\.jpg", re.IGNORECASE)
"""000001.jpg. Without it, any archive.zip from Kaggle would be taken for CelebA."""


class CelebA(PublishedFolder):
    """202,599 aligned faces of 178×218 (Liu et al. 2015). The label is the attribute `attribute`, 0 or 1."""

    title, n_images = "CelebA", 202_599
    known_names = (
        "celeba/img_align_celeba",
        "celeba/img_align_celeba.zip",
        "img_align_celeba",
        "img_align_celeba.zip",
        "celeba",
        "celeba.zip",
        "archive.zip",  # Kaggle's
    )
    remote = tuple(  # the list first, because a copy counts as one as soon as it has the images
        RemoteFile(number, f"celeba/{file}", md5, on_drive=True)
        for number, md5, file in reversed(datasets.CelebA.file_list)
        if file in ("img_align_celeba.zip", "list_attr_celeba.txt")
    )
    download_hint = (
        "mixgan fetch data=celeba tries Google Drive, which has a daily limit (and needs the package gdown). Or "
        "download img_align_celeba.zip from mmlab.ie.cuhk.edu.hk/projects/CelebA.html, or archive.zip from Kaggle, and "
        "give data.root=FILE"
    )

    def __init__(
        self,
        root: PathText | None,
        size: Side,
        crop: Crop,
        held_out: int | float,
        split_seed: int,
        labels: bool,
        attribute: str,
        skip_corrupt: bool,
    ) -> None:
        super().__init__(root, size, crop, 3, held_out, split_seed, labels, skip_corrupt)
        self.attribute = attribute

    def recognise(self, archive: Archive) -> list[str] | None:
        """Return the names of the aligned faces; None if there are none."""
        names = super().recognise(archive) or []
        return [name for name in names if FACE.fullmatch(Path(name).name)] or None

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return whether each face has the attribute, 0 or 1, from list_attr_celeba.txt (or Kaggle's .csv).

        Raises:
            DataError: there is no such file or attribute, or the file lacks a face.
        """
        try:
            attributes = _parse_attributes(self._read_list(archive))
        except (ValueError, IndexError) as error:
            raise DataError(f"{archive.root}: cannot parse its list_attr_celeba ({error})") from error
        if self.attribute not in attributes:
            raise DataError(f"data.attribute={self.attribute}: there is {', '.join(sorted(attributes))}")
        has = attributes[self.attribute]
        if missing := [name for name in names if Path(name).name not in has]:
            raise DataError(
                f"data.labels=true: {missing[0]} and {len(missing) - 1} more are not in the list. Set data.labels=false"
            )
        return [has[Path(name).name] for name in names]

    def _read_list(self, archive: Archive) -> str:
        for file in ("list_attr_celeba.txt", "list_attr_celeba.csv"):
            inside = archive.find(file)
            if inside is not None:
                return archive.read(inside, MAX_LIST_BYTES).decode()
            for folder in (archive.root.parent, archive.root.parent.parent):
                if (folder / file).is_file():
                    return Archive(folder, "data.root").read(file, MAX_LIST_BYTES).decode()
        raise DataError(
            f"data.labels=true: no list_attr_celeba.txt in {archive.root} or next to it. Add it, or set "
            "data.labels=false"
        )


def _parse_attributes(text: str) -> dict[str, dict[str, int]]:
    """Return {attribute: {file: 0 or 1}} from the official list, or Kaggle's table."""
    lines = text.splitlines()
    if "," in lines[0]:
        rows = list(csv.reader(io.StringIO(text)))
        names, rows = rows[0][1:], rows[1:]
    else:
        names, rows = lines[1].split(), [line.split() for line in lines[2:]]
    return {name: {row[0]: int(row[column] == "1") for row in rows if row} for column, name in enumerate(names, 1)}
