"""Count the work of an iteration of six presets on a GPU: nodes of its CUDA graph, bytes, FLOP, and a bound.

    python benchmarks/work.py [--batches 64 128 512] [--presets NAME ...] [--top 0] [OVERRIDE ...]

The overrides are those of `mixgan train`, and hold for all presets. The data are noise. Nothing is timed: the bound is
max(nodes × 2.2 µs, bytes / 2.9 TB/s, FLOP / 700 TFLOP/s), an estimate of the least time of an iteration on an H100.
Bytes and FLOP are counted as in `mixgan bench`: an operation reads its inputs and writes its outputs. Of a compiled
penalty, each generated kernel does. With --unchecked, a compiled penalty is used whatever it computes, for a device
that computes nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections import defaultdict
from typing import Any

# Kernels are counted as they are generated, so they must not come from a cache. Torch reads this when it is imported.
os.environ["TORCHINDUCTOR_FX_GRAPH_CACHE"] = os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"

import torch
from hydra import compose, initialize_config_dir
from torch._inductor.scheduler import Scheduler

from mixgan_cli.commands.bench import noise
from mixgan_cli.config.components import build
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run, conf_dir
from mixgan_cli.models.networks import build_networks
from mixgan_cli.objectives.penalties import NoPenalty
from mixgan_cli.runtime.device import resolve_hardware
from mixgan_cli.runtime.measure import OpCounter
from mixgan_cli.training.checkpoint import State
from mixgan_cli.training.compiled_penalty import CompiledPenalty
from mixgan_cli.training.cuda_graph import WARM_UP
from mixgan_cli.training.loop import iterate, make_step, read_inputs
from mixgan_cli.training.setup import begin

PRESETS = {
    "mggan_cifar10": ["experiment=mggan_cifar10"],
    "megan_cifar10": ["experiment=megan_cifar10"],
    "megan_celeba": ["experiment=megan_celeba", "data.root=nowhere"],
    "hmog_mnist": ["experiment=hmog2019_hmog", "data=mnist", "training.nimg=10_000_000", "training.epochs=null"],
    "hmog_celeba": ["model=hmog", "model.k=8", "data=celeba", "data.root=nowhere"],
    "madgan_cifar10": ["model=madgan", "data=cifar10"],
}
SECONDS_PER_NODE, BYTES_PER_SECOND, FLOPS_PER_SECOND = 2.2e-6, 2.9e12, 700e12


class ByOperation(OpCounter):
    """Count each operation by name and type."""

    def __init__(self) -> None:
        super().__init__(lambda dtype, flops, moved: 0.0)
        self.table: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        before = self.operations, self.bytes
        out = super().__torch_dispatch__(func, types, args, kwargs)
        row = self.table[f"{func}".removeprefix("aten.")]
        row[0] += self.operations - before[0]
        row[1] += self.bytes - before[1]
        return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Count the work of an iteration of six presets on a GPU.")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--top", type=int, default=0, help="operations to list for each preset and batch")
    parser.add_argument("--unchecked", action="store_true", help="use a compiled penalty whatever it computes")
    options = parser.parse_args()
    if options.unchecked:
        CompiledPenalty._difference = lambda self, compiled, plain, points: 0.0 * len(compiled(points).shape)
    print("| preset | batch | nodes | operations | GB | GFLOP | bound [ms] |\n|---|---|---|---|---|---|---|")
    for name in options.presets:
        for batch in options.batches:
            nodes, counted = count([*PRESETS[name], f"training.batch={batch}", "hardware=gpu", *options.overrides])
            flops = sum(counted.flops.values())
            bound = max(nodes * SECONDS_PER_NODE, counted.bytes / BYTES_PER_SECOND, flops / FLOPS_PER_SECOND)
            print(
                f"| {name} | {batch} | {nodes:,} | {counted.operations:,} | {counted.bytes / 1e9:.2f} "
                f"| {flops / 1e9:,.0f} | {1e3 * bound:.2f} |",
                flush=True,
            )
            for operation, (calls, moved) in sorted(counted.table.items(), key=lambda row: -row[1][0])[: options.top]:
                print(f"    {calls:5} {moved / 1e9:8.3f} GB  {operation}")


def count(overrides: list[str]) -> tuple[int, ByOperation]:
    """Return the number of nodes of the recorded iteration, and its operations."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = parse(compose("config", overrides), Run)
    compute, source = resolve_hardware(run.hardware), build(run.data)
    state = begin(run, build_networks(run.model, source.shape), noise(source), compute)
    critic, stream, generated = state.phases.discriminator, torch.cuda.Stream(), _count_generated_bytes()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            iterate(state, run.seed)
        counted = _counted(state, run.seed)
        if generated:
            penalty, critic.penalty = critic.penalty, NoPenalty()
            flops, counted = counted.flops, _counted(state, run.seed)
            counted.flops, critic.penalty = flops, penalty
            counted.bytes += critic.steps * sum(generated)
        step, inputs = make_step(state), read_inputs(state)
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph, stream=stream):
        step(inputs)
    nodes = ctypes.c_size_t()
    status = ctypes.CDLL(None).cudaGraphGetNodes(ctypes.c_void_p(graph.raw_cuda_graph()), None, ctypes.byref(nodes))
    if status:
        raise RuntimeError(f"cudaGraphGetNodes: error {status}")
    return nodes.value, counted


def _counted(state: State, seed: int) -> ByOperation:
    with torch.compiler.set_stance("force_eager"), ByOperation() as counted:
        iterate(state, seed)
    return counted


def _count_generated_bytes() -> list[int]:
    """Return a list to which each compilation from now on adds the bytes that its kernels read and write."""
    generated: list[int] = []
    generate = Scheduler.codegen

    def counting(scheduler: Scheduler) -> None:
        generated.append(sum(node.get_read_write_buffers_sizes() for node in scheduler.nodes))
        generate(scheduler)

    Scheduler.codegen = counting
    return generated


if __name__ == "__main__":
    main()
