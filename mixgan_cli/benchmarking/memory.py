"""Peak memory: of this process on the CPU (Linux), of PyTorch's allocator on a GPU. In MB."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch


def start_peak(device: str = "cpu") -> float:
    """Forget the peak so far, and return the memory in use now, in MB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_reserved() / 2**20
    with suppress(AttributeError):  # glibc's: what was freed goes back to the system
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _of_process("VmRSS")


def peak(device: str = "cpu") -> float:
    """Return the most that was in use since `start_peak`, in MB."""
    return torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else _of_process("VmHWM")


def of_workers() -> float:
    """Return what this process's child processes hold now, in MB, pages that they share counted in shares (Linux)."""
    children = " ".join(path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")).split()
    rollups = [Path("/proc", child, "smaps_rollup").read_text(encoding="ascii") for child in children]
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in rollups) / 1024


def _of_process(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024
