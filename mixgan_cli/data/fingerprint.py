"""Fingerprints of files by their content, so that a prepared set is found again wherever its source lies."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mixgan_cli.data.cache import cache_dir
from mixgan_cli.runtime.io import write_text

CHUNK = 2**22
"""Bytes that are read at a time."""
SETTLED = 2.0
"""Age of the last change [s] from which another change would have another time, on any file system."""


def fingerprint(files: Mapping[str, Path], max_bytes: int | None = None) -> str:
    """Return a hash of the names and contents of files, 32 hexadecimal digits.

    The files are read only if one of them has another size, time of change, or inode than when they were read last.
    The time of change (ctime) is set by the system: no program can keep it while it changes a file, so files that were
    replaced in place, or unpacked with the times of others, are read again.

    Args:
        files: {name: path}.
        max_bytes: larger files are not read; their size, times and inode count instead.
    """
    stats = {name: path.stat() for name, path in sorted(files.items())}
    seen = {name: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in stats.items()}
    note = cache_dir() / "fingerprints" / hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]
    with suppress(OSError):
        return note.read_text(encoding="ascii")
    digest = hashlib.blake2b(digest_size=16)
    for name, stat in stats.items():
        digest.update(f"{len(stats)}/{name}/{stat.st_size}/".encode(errors="surrogateescape"))
        if max_bytes is not None and stat.st_size > max_bytes:
            digest.update(str(seen[name]).encode())
            continue
        with files[name].open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    found = digest.hexdigest()
    if time.time() - max((stat.st_ctime for stat in stats.values()), default=0.0) > SETTLED:
        with suppress(OSError):  # a cache that cannot be written costs another reading
            write_text(note, found)
    return found
