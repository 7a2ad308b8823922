"""Measure time, memory, FLOP and bytes of work on a device, and the device's own ceilings."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

REPETITIONS = 20
LEAST = 0.1
"""Seconds that a repetition takes at least, so that the clock and the last kernel do not count."""
MOST = 20.0
"""Seconds after which no repetition is begun, but for the first five."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median over repetitions, and the quartiles."""

    median: float
    low: float
    high: float
    host: float
    """Seconds until the host had said all of one call, the device having nothing else to do; the median."""


def timed(work: Callable[[], object], device: torch.device) -> Timing:
    """Return the seconds that a call of `work` takes, which should be warm."""
    calls, (taken, said) = 1, _once(work, 1, device)
    host = [said]
    while taken < LEAST:
        calls = max(2 * calls, int(calls * LEAST / max(taken, 1e-9)))
        taken, _ = _once(work, calls, device)
    began = time.perf_counter()
    whole: list[float] = []
    while len(whole) < REPETITIONS and (len(whole) < 5 or time.perf_counter() - began < MOST):
        whole.append(_once(work, calls, device)[0] / calls)
        if device.type == "cuda":  # elsewhere the host is the device
            host.append(_once(work, 1, device)[1])
    low, median, high = statistics.quantiles(whole, n=4, method="inclusive")
    return Timing(median, low, high, statistics.median(host) if device.type == "cuda" else median)


def _once(work: Callable[[], object], calls: int, device: torch.device) -> tuple[float, float]:
    """Seconds until all calls are done, and until they are said."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    said = time.perf_counter()
    _wait(device)
    return time.perf_counter() - began, said - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Ceilings:
    """FLOP/s of a large product by the type of its numbers, and bytes/s read and written by a large copy."""

    flops: dict[torch.dtype, float]
    bandwidth: float

    def floor(self, dtype: torch.dtype, flops: float, nbytes: float) -> float:
        """Return the least seconds of an operation: at full speed, or at full bandwidth, whichever is longer."""
        fastest = self.flops.get(dtype, self.flops[torch.float32])
        return max(flops / fastest, nbytes / self.bandwidth)


@cache
def ceilings(device: torch.device, precision: str) -> Ceilings:
    """Measure them, in operations and bytes a second, once a process.

    Args:
        device: where.
        precision: float32, tf32 (as torch is set already) or bf16; without bf16 that is not measured, for a CPU that
            has no such instructions takes minutes.
    """
    side = 8192 if device.type == "cuda" else 2048
    flops = {}
    for dtype in (torch.float32, *([torch.bfloat16] if precision == "bf16" else [])):
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        flops[dtype] = 2 * side**3 / _seconds(lambda left=left, right=right: left @ right, device)
    source = torch.randn(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    return Ceilings(flops, 2 * source.nbytes / _seconds(lambda: target.copy_(source), device))


def _seconds(work, device: torch.device) -> float:
    for _ in range(3):
        work()
    return timed(work, device).median


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


Floor = Callable[[torch.dtype, float, float], float]


class Counted(TorchDispatchMode):
    """Counts what is done inside, gradients' and optimisers' part too.

    An operation reads each tensor it is given and writes each it makes, once; a view does neither. Fused kernels move
    less than that, kernels that need room to work move more.

    Args:
        floor: maps type, FLOP and bytes of an operation to its least seconds.
    """

    def __init__(self, floor: Floor) -> None:
        super().__init__()
        self.floor = floor
        self.flops: dict[torch.dtype, float] = defaultdict(float)
        """By the type of the numbers."""
        self.bytes = 0.0
        self.operations = 0
        """Views apart: on a GPU about as many kernels."""
        self.seconds = 0.0
        """The least that all operations take, one after the other."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it, and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given, made = _tensors((args, kwargs)), _tensors(out)
        if func._schema.is_mutable:
            written = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
            by_name = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
            made = _tensors([by_name.get(name) for name in written])
        else:
            there = {tensor.untyped_storage().data_ptr() for tensor in given}
            if made and all(tensor.untyped_storage().data_ptr() in there for tensor in made):
                return out  # a view
        moved = sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in [*given, *made])
        count = flop_registry.get(func._overloadpacket)
        flops = float(count(*args, **kwargs, out_val=out)) if count else 0.0
        dtype = given[0].dtype if given else torch.float32
        if flops:
            self.flops[dtype] += flops
        self.bytes += moved
        self.operations += 1
        self.seconds += self.floor(dtype, flops, moved)
        return out


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
