"""`mixgan bench`: time a training iteration and compare it with the machine's peak rates. Keys are those of train."""

from __future__ import annotations

import gc
import logging
from functools import cache
from typing import Any

import torch
from omegaconf import DictConfig

from mixgan_cli.config.components import build
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from mixgan_cli.data.dataset import Dataset, ImageDataset, Source
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import parameter_counts
from mixgan_cli.runtime.device import resolve_hardware
from mixgan_cli.runtime.measure import OpCounter, ceilings, peak_memory, reset_peak_memory, time_calls
from mixgan_cli.training.checks import fakes_per_step
from mixgan_cli.training.cuda_graph import WARM_UP, maybe_capture
from mixgan_cli.training.loop import iterate, make_step
from mixgan_cli.training.setup import begin, check_and_build

log = logging.getLogger("mixgan")

COLUMNS = {
    "model": "model",
    "k": "K",
    "real": "real",
    "fake": "fake",
    "precision": "precision",
    "capture": "captured",
    "compile": "compiled",
    "img_per_second": "img/s",
    "ms": "ms",
    "ms_low": "25 %",
    "ms_high": "75 %",
    "host_ms": "host ms",
    "floor_ms": "floor ms",
    "gflop": "GFLOP",
    "gbyte": "GB",
    "operations": "operations",
    "ceiling_share": "of the ceiling",
    "peak_mb": "peak MB",
}
"""The keys of a row that the table shows, with their titles."""


def run(config: DictConfig) -> dict[str, Any]:
    """Measure one configuration, add its row to the table on stderr, and return it.

    Raises:
        ConfigError: the configuration is not valid, or gives a run from which training goes on.
    """
    settings: Run = parse(config, Run)
    if settings.continue_ or settings.start_from:
        raise ConfigError("bench has no use for continue and start_from: it measures new networks, on noise")
    compute = resolve_hardware(settings.hardware)
    device = compute.device
    best = ceilings(device, compute.precision)
    source: Source = build(settings.data)
    gc.collect()
    before = reset_peak_memory(device.type)
    networks = check_and_build(settings, source.shape)
    state = begin(settings, networks, noise(source), compute)
    iterate(state, settings.seed)  # creates the optimisers' state, compiles the networks
    with torch.compiler.set_stance("force_eager"), OpCounter(best.floor) as counted:
        iterate(state, settings.seed)
    step = maybe_capture(make_step(state), compute, state.phases.optimizers.values())
    for _ in range(WARM_UP + 2):
        iterate(state, settings.seed, step)
    reset_peak_memory(device.type)  # without the warm-up and counting
    timing = time_calls(lambda: iterate(state, settings.seed, step), device)
    shown = state.phases.n_real
    flops = sum(counted.flops.values())
    ceiling = best.flops[torch.bfloat16 if compute.precision == "bf16" else torch.float32]
    row = {
        **compute.describe(),
        "torch": torch.__version__,
        "model": settings.model.name,
        "k": settings.model.k,
        "data": list(source.shape),
        "real": settings.training.batch,
        "fake": fakes_per_step(networks, settings.objective, settings.training.batch, settings.training.fakes),
        "d_steps": settings.objective.d_steps,
        "parameters": parameter_counts(networks),
        "img_per_second": shown / timing.median,
        "ms": 1e3 * timing.median,
        "ms_low": 1e3 * timing.low,
        "ms_high": 1e3 * timing.high,
        "host_ms": 1e3 * timing.host,
        "floor_ms": 1e3 * counted.seconds,
        "gflop": flops / 1e9,
        "gbyte": counted.bytes / 1e9,
        "operations": counted.operations,
        "tflop_per_second": flops / timing.median / 1e12,
        "ceiling_tflop_per_second": ceiling / 1e12,
        "ceiling_gbyte_per_second": best.bandwidth / 1e9,
        "ceiling_share": flops / timing.median / ceiling,
        "peak_mb": peak_memory(device.type) - before,
    }
    _head()
    log.info("| %s |", " | ".join(_format(row[name]) for name in COLUMNS))
    return row


def noise(source: Source) -> Dataset:
    """Return a data set of noise with the shape of the images, so that nothing is downloaded; points are unchanged."""
    if len(source.shape) == 1:
        return source.load()
    images = torch.randint(0, 256, (4096, *source.shape), dtype=torch.uint8)
    return ImageDataset(Packed(images, None, "noise"), Packed(images, None, "noise"))


@cache  # once per process
def _head() -> None:
    log.info("| %s |\n|%s", " | ".join(COLUMNS.values()), "---|" * len(COLUMNS))


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if not isinstance(value, float) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
