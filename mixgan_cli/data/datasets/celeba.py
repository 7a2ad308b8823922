"""CelebA: aligned photographs of faces (Liu et al. 2015)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from torchvision import datasets

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.cache import Remote
from mixgan_cli.data.datasets.folder import KnownPhotos
from mixgan_cli.data.images import Crop, Side
from mixgan_cli.errors import DataError

MOST_LIST = 2**26
"""Bytes of a list of labels; CelebA's has 26 million."""


FACE = re.compile(r"\d{6}\.jpg", re.IGNORECASE)
"""000001.jpg: an archive.zip of Kaggle's may be any set."""


class CelebA(KnownPhotos):
    """202,599 faces of 178×218, aligned (Liu et al. 2015). A label is the attribute `attribute`, 0 or 1."""

    title, expected = "CelebA", 202_599
    usual = (
        "celeba/img_align_celeba",
        "celeba/img_align_celeba.zip",
        "img_align_celeba",
        "img_align_celeba.zip",
        "celeba",
        "celeba.zip",
        "archive.zip",  # Kaggle's
    )
    remote = tuple(  # the list first: a copy is one as soon as it has the images
        Remote(number, f"celeba/{file}", md5, on_drive=True)
        for number, md5, file in reversed(datasets.CelebA.file_list)
        if file in ("img_align_celeba.zip", "list_attr_celeba.txt")
    )
    way_out = (
        "mixgan fetch data=celeba tries Google Drive, which has a daily limit (and needs the package gdown). By hand: "
        "img_align_celeba.zip from mmlab.ie.cuhk.edu.hk/projects/CelebA.html or Kaggle's archive.zip, and "
        "data.root=FILE"
    )

    def __init__(
        self,
        root: str | None,
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
        """Return the names of the aligned faces, or None."""
        names = super().recognise(archive) or []
        return [name for name in names if FACE.fullmatch(Path(name).name)] or None

    def labels_of(self, archive: Archive, names: Sequence[str]) -> list[int]:
        """Return whether each face has the attribute, 0 or 1, from list_attr_celeba.txt (or Kaggle's .csv).

        Raises:
            DataError: there is no such file, no such attribute, or a face is not in it.
        """
        try:
            known = _attributes(self._list(archive))
        except (ValueError, IndexError) as error:
            raise DataError(f"{archive.root}: its list_attr_celeba cannot be read as such a list ({error})") from error
        if self.attribute not in known:
            raise DataError(f"data.attribute={self.attribute}: there is {', '.join(sorted(known))}")
        has = known[self.attribute]
        if missing := [name for name in names if Path(name).name not in has]:
            raise DataError(
                f"data.labels=true: {missing[0]} and {len(missing) - 1} more are not in the list; take false"
            )
        return [has[Path(name).name] for name in names]

    def _list(self, archive: Archive) -> str:
        for file in ("list_attr_celeba.txt", "list_attr_celeba.csv"):
            inside = archive.find(file)
            if inside is not None:
                return archive.read(inside, MOST_LIST).decode()
            for folder in (archive.root.parent, archive.root.parent.parent):
                if (folder / file).is_file():
                    return Archive(folder, "data.root").read(file, MOST_LIST).decode()
        raise DataError(f"data.labels=true: no list_attr_celeba.txt in {archive.root} or beside it; take false")


def _attributes(text: str) -> dict[str, dict[str, int]]:
    """Return {attribute: {file: 0 or 1}} from the official list, or Kaggle's table."""
    lines = text.splitlines()
    if "," in lines[0]:
        rows = list(csv.reader(io.StringIO(text)))
        names, rows = rows[0][1:], rows[1:]
    else:
        names, rows = lines[1].split(), [line.split() for line in lines[2:]]
    return {name: {row[0]: int(row[column] == "1") for row in rows if row} for column, name in enumerate(names, 1)}
