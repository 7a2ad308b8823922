"""What this machine can do at best: products of large matrices, and copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from mixgan_cli.benchmarking.timing import timed


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
