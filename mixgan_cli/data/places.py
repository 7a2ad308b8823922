"""Where a local copy of a set is looked for, in any of the layouts it is usually found in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from mixgan_cli.data.archives import Archive
from mixgan_cli.data.prepared import cache_dir
from mixgan_cli.errors import DataError

Layout = TypeVar("Layout")
VARIABLE = "MIXGAN_DATA"


def local_copy(
    title: str, root: str | None, usual: Iterable[str], recognise: Callable[[Archive], Layout | None], way_out: str
) -> tuple[Archive, Layout]:
    """Return the first folder or archive that holds the set, and what it was recognised as.

    Args:
        title: of the set.
        root: data.root: the copy itself, or a folder with it; None for $MIXGAN_DATA, then the cache.
        usual: names of folders and archives in which the set comes, below those.
        recognise: what is in an archive, or None.
        way_out: what to do where there is none.

    Raises:
        DataError: there is none.
    """
    usual = tuple(usual)
    places = _places(root)
    if root and not Path(root).exists():
        raise DataError(f"data.root={root}: there is no such folder or archive")
    for path in _candidates(places, usual, itself=root is not None):
        archive = Archive(path, "data.root")
        layout = recognise(archive)
        if layout is not None:
            return archive, layout
    named = (
        f"data.root={root}: no {title} there" if root else f"{title}: no local copy in {', '.join(map(str, places))}"
    )
    raise DataError(f"{named} (looked for {', '.join(usual)}). {way_out}")


def looked_through(root: str | None, usual: Iterable[str]) -> list[Path]:
    """Return the folders in which a copy is looked for, for a set that comes in several files."""
    folders = (folder for place in _places(root) for folder in (place, *(place / name for name in usual)))
    return [folder for folder in folders if folder.is_dir()]


def _places(root: str | None) -> list[Path]:
    return [Path(root)] if root else [Path(p) for p in (os.environ.get(VARIABLE), cache_dir()) if p]


def _candidates(places: Iterable[Path], usual: tuple[str, ...], itself: bool) -> Iterator[Path]:
    for place in places:
        if place.is_file():
            yield place
            continue
        yield from (place / name for name in usual if (place / name).exists())
        if itself and place.is_dir():
            yield place
