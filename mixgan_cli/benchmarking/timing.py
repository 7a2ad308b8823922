"""Time that work takes on a device, measured often enough to tell how far it varies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

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
