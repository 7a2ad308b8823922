"""Measure the cost of K: time and peak memory of a training iteration at K = 1, 4, 16, 32 with equal numbers of fakes.

    python benchmarks/k_sweep.py [model ...] [--ks 1 32] [--rounds 2] [--device cuda]        (make bench)

An iteration has one discriminator step and one generator step on 32-pixel colour images, 64 real and 128 generated, and
updates the moving average. Each model uses the objective of its paper, but with one discriminator step and shared
fakes, so that only K changes. More experts have more first-layer parameters, and Adam and the moving average update all
of them, however few samples an expert generates. This part is timed separately (`Adam + EMA`), and the ratio compares
the remaining time with that at K = 1. Each row is measured in fresh processes that alternate. Times are medians of all
repetitions. The peak memory is that of an iteration without a CUDA graph, above networks and optimisers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

from mixgan_cli.runtime.device import resolve_hardware

MODELS, KS = ("mggan", "madgan", "mog", "hmog"), (1, 4, 16, 32)
REAL, FAKE, SHAPE = 64, 128, (3, 32, 32)
ROUNDS = 2


def measure(model: str, k: int, device_name: str) -> dict[str, float]:
    """Return the times of an iteration and of the experts' Adam and EMA [ms], and this process's peak memory [MB]."""
    import torch
    from hydra import compose, initialize_config_dir

    from mixgan_cli.config.parse import parse
    from mixgan_cli.config.schema import Run, conf_dir
    from mixgan_cli.data.dataset import ImageDataset
    from mixgan_cli.data.packed import Packed
    from mixgan_cli.models.networks import build_networks
    from mixgan_cli.optim.optimizers import build_optimizer
    from mixgan_cli.runtime.measure import peak_memory, reset_peak_memory, time_calls
    from mixgan_cli.training.cuda_graph import WARM_UP, maybe_capture
    from mixgan_cli.training.ema import MovingAverage
    from mixgan_cli.training.loop import iterate, make_step
    from mixgan_cli.training.setup import begin

    overrides = [f"model={model}", f"model.k={k}", f"training.batch={REAL}", f"training.fakes={FAKE}"]
    overrides += ["objective.d_steps=1", "objective.fakes=shared", f"hardware.device={device_name}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = parse(compose("config", overrides), Run)
    torch.manual_seed(0)
    compute = resolve_hardware(run.hardware)
    device = compute.device
    networks = build_networks(run.model, SHAPE)
    noise = Packed(torch.randint(0, 256, (1024, *SHAPE), dtype=torch.uint8), None, "noise")
    state = begin(run, networks, ImageDataset(noise, noise), compute)
    for _ in range(2):
        iterate(state, run.seed)
    before = reset_peak_memory(device_name)
    iterate(state, run.seed)
    most = peak_memory(device_name) - before
    step = maybe_capture(make_step(state), compute)

    def iteration() -> None:
        iterate(state, run.seed, step)

    for _ in range(WARM_UP + 2 if compute.capture else 0):
        iteration()
    whole = time_calls(iteration, device).median

    experts = networks.generator.experts
    average = MovingAverage(experts, 10_000, None)
    optimizer = build_optimizer(run.objective.optimizer.generator, experts.parameters(), nimg=1)

    def update(inputs) -> None:
        optimizer.step()
        average.update(experts, inputs[0]["weight"])

    for parameter in experts.parameters():
        parameter.grad = torch.zeros_like(parameter)
    update = maybe_capture(update, compute)
    weight = average.weight(10_000, REAL)
    for _ in range(WARM_UP + 2 if compute.capture else 1):
        update([{"weight": weight}])
    alone = time_calls(lambda: update([{"weight": weight}]), device).median
    return {"ms": 1e3 * whole, "parameters_ms": 1e3 * alone, "mb": most}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ks", type=int, nargs="+", default=KS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]), arguments.device)))
        return
    print(
        "| model | K | ms per iteration | Adam + EMA in it | remaining ms | × K = 1 | peak MB |\n"
        "|---|---|---|---|---|---|---|"
    )
    for model in arguments.models:
        found: dict[int, list[dict[str, float]]] = {k: [] for k in arguments.ks}
        for _ in range(arguments.rounds):
            for k in arguments.ks:
                command = [sys.executable, __file__, "--device", arguments.device, "--one", model, str(k)]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[k].append(json.loads(out.splitlines()[-1]))
        alone = None
        for k, rows in found.items():
            ms, apart, mb = (statistics.median(row[name] for row in rows) for name in ("ms", "parameters_ms", "mb"))
            alone = alone or ms - apart
            rest = ms - apart
            print(
                f"| {model} | {k} | {ms:.2f} | {apart:.2f} | {rest:.2f} | {rest / alone:.2f} | {mb:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
