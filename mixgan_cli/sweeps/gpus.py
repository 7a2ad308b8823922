"""Which GPUs there are, and which of them a process takes. No torch here: it looks at CUDA_VISIBLE_DEVICES but once."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TextIO

VISIBLE = "CUDA_VISIBLE_DEVICES"
_held: dict[str, TextIO] = {}
"""The GPUs this process took, each with its locked file, until the process ends."""


def visible() -> tuple[str, ...]:
    """Return the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; none where there is no driver."""
    said = os.environ.get(VISIBLE)
    if said is not None:
        return tuple(takewhile(lambda word: word not in ("", "-1"), map(str.strip, said.split(","))))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listed)  # CUDA and nvidia-smi may number GPUs differently
    return tuple(gpu for gpu in found if gpu.startswith("MIG")) or tuple(found)


def take(gpus: Sequence[str], folder: Path, n: int = 1) -> tuple[str, ...]:
    """Let this process see only the n GPUs that fewest others took, until it ends; a second call changes nothing.

    Args:
        gpus: what to choose from.
        folder: one that all processes on this machine share. Who took a GPU holds a lock on a file GPU.PID there.
        n: how many; all there are, where they are fewer.
    """
    if not _held:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "choosing").open("w") as choosing:
            fcntl.flock(choosing, fcntl.LOCK_EX)
            load = {gpu: sum(map(_locked, folder.glob(f"{_file(gpu)}.*"))) for gpu in gpus}
            for gpu in sorted(gpus, key=load.__getitem__)[:n]:
                _held[gpu] = (folder / f"{_file(gpu)}.{os.getpid()}").open("w")
                fcntl.flock(_held[gpu], fcntl.LOCK_EX)
        os.environ[VISIBLE] = ",".join(_held)
    return tuple(_held)


def _file(gpu: str) -> str:
    return gpu.replace("/", "_")  # as in the name of a part of a GPU


def _locked(path: Path) -> bool:
    with path.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    path.unlink()  # its process has ended
    return False
