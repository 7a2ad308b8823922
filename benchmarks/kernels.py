"""Print which kernels take the time of a training iteration.

    python benchmarks/kernels.py [--top 25] [OVERRIDE ...]

The overrides are those of `mixgan train`. On a GPU, the iteration is captured as a CUDA graph and replayed, and the
table has the kernels; on the CPU it has PyTorch's operations. The data are noise.
"""

from __future__ import annotations

import argparse

import torch
from hydra import compose, initialize_config_dir
from torch.profiler import ProfilerActivity, profile

from mixgan_cli.commands.bench import noise
from mixgan_cli.config.components import build
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run, conf_dir
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime.device import resolve_hardware
from mixgan_cli.training.cuda_graph import WARM_UP, maybe_capture
from mixgan_cli.training.loop import iterate, make_step
from mixgan_cli.training.setup import begin

ITERATIONS = 5
WIDTH = 90
"""Letters of a kernel's name that are printed."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print which kernels take the time of a training iteration.")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    parser.add_argument("--top", type=int, default=25, help="number of rows")
    arguments = parser.parse_args()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = parse(compose("config", arguments.overrides), Run)
    compute, source = resolve_hardware(run.hardware), build(run.data)
    on_gpu = compute.device.type == "cuda"
    state = begin(run, build_networks(run.model, source.shape), noise(source), compute)
    step = maybe_capture(make_step(state), compute)
    for _ in range(WARM_UP + 2 if on_gpu else 1):
        iterate(state, run.seed, step)
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        for _ in range(ITERATIONS):
            iterate(state, run.seed, step)
        if on_gpu:
            torch.cuda.synchronize()

    rows = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key)
        for event in profiler.key_averages()
    ]
    rows = sorted((row for row in rows if row[0]), reverse=True)
    whole = sum(time for time, _, _ in rows)
    calls = sum(count for _, count, _ in rows) / ITERATIONS
    print(f"{whole / ITERATIONS / 1e3:.3f} ms in {calls:.0f} kernels per iteration\n")
    print("| µs per iteration | share | calls | kernel |\n|---|---|---|---|")
    for time, count, name in rows[: arguments.top]:
        print(f"| {time / ITERATIONS:.1f} | {time / max(whole, 1e-9):.1%} | {count / ITERATIONS:g} | {name[:WIDTH]} |")


if __name__ == "__main__":
    main()
