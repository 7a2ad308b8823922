"""Measure time, memory, FLOP and bytes of a function on a device, and the device's peak rates."""

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
MIN_SECONDS = 0.1
"""Minimum duration of a repetition, so that the clock's resolution and the last kernel do not matter."""
MAX_SECONDS = 20.0
"""After this time no further repetition is started, except for the first five."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median and quartiles over repetitions."""

    median: float
    low: float
    high: float
    host: float
    """Median seconds until the host has enqueued all work of one call on an idle device."""


def time_calls(work: Callable[[], object], device: torch.device) -> Timing:
    """Measure the seconds per call of `work`, which must have been called before to be warm."""
    calls, (taken, enqueued) = 1, _once(work, 1, device)
    host = [enqueued]
    while taken < MIN_SECONDS:
        calls = max(2 * calls, int(calls * MIN_SECONDS / max(taken, 1e-9)))
        taken, _ = _once(work, calls, device)
    began = time.perf_counter()
    whole: list[float] = []
    while len(whole) < REPETITIONS and (len(whole) < 5 or time.perf_counter() - began < MAX_SECONDS):
        whole.append(_once(work, calls, device)[0] / calls)
        if device.type == "cuda":  # on a CPU both are the same
            host.append(_once(work, 1, device)[1])
    low, median, high = statistics.quantiles(whole, n=4, method="inclusive")
    return Timing(median, low, high, statistics.median(host) if device.type == "cuda" else median)


def _once(work: Callable[[], object], calls: int, device: torch.device) -> tuple[float, float]:
    """Return the seconds until all calls are done, and until all are enqueued."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    enqueued = time.perf_counter()
    _wait(device)
    return time.perf_counter() - began, enqueued - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Ceilings:
    """FLOP/s of a large matrix product by dtype, and bytes/s read and written by a large copy."""

    flops: dict[torch.dtype, float]
    bandwidth: float

    def floor(self, dtype: torch.dtype, flops: float, nbytes: float) -> float:
        """Return the least seconds of an operation: at peak FLOP/s or at peak bandwidth, whichever is longer."""
        fastest = self.flops.get(dtype, self.flops[torch.float32])
        return max(flops / fastest, nbytes / self.bandwidth)


@cache
def ceilings(device: torch.device, precision: str) -> Ceilings:
    """Measure a device's peak FLOP a second and bytes a second, once per process.

    Args:
        device: device to measure.
        precision: float32, tf32 (which torch must be set to) or bf16. Only for bf16 is bfloat16 measured, because that
            takes minutes on a CPU without such instructions.
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
    return time_calls(work, device).median


def reset_peak_memory(device: str = "cpu") -> float:
    """Reset the peak memory, and return the memory in use now, in MB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_reserved() / 2**20
    with suppress(AttributeError):  # glibc: return freed memory to the system
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _process_memory("VmRSS")


def peak_memory(device: str = "cpu") -> float:
    """Return the peak memory since `reset_peak_memory`, in MB."""
    return torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else _process_memory("VmHWM")


def workers_memory() -> float:
    """Return the memory of this process's children now, in MB (Linux; a shared page counts in equal shares)."""
    children = " ".join(path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")).split()
    rollups = [Path("/proc", child, "smaps_rollup").read_text(encoding="ascii") for child in children]
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in rollups) / 1024


def _process_memory(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


Floor = Callable[[torch.dtype, float, float], float]


class OpCounter(TorchDispatchMode):
    """Count the operations inside the block, including those of backward passes and optimisers.

    An operation is taken to read each input tensor and to write each output tensor once; a view does neither. Fused
    kernels move fewer bytes, and kernels with a workspace move more.

    Args:
        floor: maps dtype, FLOP and bytes of an operation to its least seconds.
    """

    def __init__(self, floor: Floor) -> None:
        super().__init__()
        self.floor = floor
        self.flops: dict[torch.dtype, float] = defaultdict(float)
        """FLOP by dtype."""
        self.bytes = 0.0
        self.operations = 0
        """Number of operations without views; on a GPU, about the number of kernels."""
        self.seconds = 0.0
        """Sum of the least seconds of all operations."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given, made = _tensors((args, kwargs)), _tensors(out)
        if func._schema.is_mutable:
            written = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
            by_name = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
            made = _tensors([by_name.get(name) for name in written])
        else:
            given_storages = {tensor.untyped_storage()._cdata for tensor in given}  # fake tensors have no data
            if all(tensor.untyped_storage()._cdata in given_storages for tensor in made):
                return out  # a view, or no tensor
        moved = sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in [*given, *made])
        flops = _flops(func, args, kwargs, out)
        dtype = given[0].dtype if given else torch.float32
        if flops:
            self.flops[dtype] += flops
        self.bytes += moved
        self.operations += 1
        self.seconds += self.floor(dtype, flops, moved)
        return out


def _flops(func: Any, args: Any, kwargs: Any, out: Any) -> float:
    """Return the FLOP of an operation by PyTorch's formulas; in that of a weight's gradient groups are added."""
    count = flop_registry.get(func._overloadpacket)
    if count is None:
        return 0.0
    flops = float(count(*args, **kwargs, out_val=out))
    if func is torch.ops.aten.convolution_backward.default and args[9] > 1:
        *others, groups, (of_input, _, of_bias) = args
        rest = float(count(*others, groups, [of_input, False, of_bias], **kwargs, out_val=out))
        flops = rest + (flops - rest) / groups
    return flops


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
