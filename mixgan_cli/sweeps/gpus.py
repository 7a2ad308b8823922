"""List the visible GPUs and claim some for a process. No torch: it reads CUDA_VISIBLE_DEVICES only once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TextIO

from mixgan_cli.runtime.io import try_lock

VISIBLE = "CUDA_VISIBLE_DEVICES"
_locks: dict[str, TextIO] = {}
"""The GPUs that this process claimed, each with its locked file, until the process ends."""


def visible() -> tuple[str, ...]:
    """Return the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; empty if there is no driver."""
    value = os.environ.get(VISIBLE)
    if value is not None:
        return tuple(takewhile(lambda word: word not in ("", "-1"), map(str.strip, value.split(","))))
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", listed)  # numbers of CUDA and nvidia-smi may differ
    return tuple(gpu for gpu in found if gpu.startswith("MIG")) or tuple(found)


def claim(gpus: Sequence[str], folder: Path, n: int = 1) -> tuple[str, ...]:
    """Claim the n GPUs with the fewest claims, and hide the others from this process. A second call changes nothing.

    Args:
        gpus: GPUs to choose from.
        folder: folder that all processes on this machine share. A claim is a locked file GPU.PID in it.
        n: number of GPUs; all of `gpus` if there are fewer.
    """
    if not _locks:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "choosing").open("w") as choosing:
            try_lock(choosing, wait=True)
            load = {gpu: sum(map(_locked, folder.glob(f"{_file(gpu)}.*"))) for gpu in gpus}
            for gpu in sorted(gpus, key=load.__getitem__)[:n]:
                _locks[gpu] = (folder / f"{_file(gpu)}.{os.getpid()}").open("w")
                try_lock(_locks[gpu], wait=True)
        os.environ[VISIBLE] = ",".join(_locks)
    return tuple(_locks)


def _file(gpu: str) -> str:
    return gpu.replace("/", "_")  # names of MIG devices contain it


def _locked(path: Path) -> bool:
    with path.open("w") as file:
        if not try_lock(file):
            return True
    path.unlink()  # its process has ended
    return False
