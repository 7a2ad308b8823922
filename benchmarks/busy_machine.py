"""Measure how much other work on the machine slows down training and Inception, for several spin counts of OpenMP.

    python benchmarks/busy_machine.py [--spins default passive 0 1000] [--rounds 3]        (make bench-busy)

While libgomp's threads wait for each other, they spin before they sleep (GOMP_SPINCOUNT; with OMP_WAIT_POLICY=PASSIVE
they do not spin). On an idle machine this saves a wake-up. On a busy machine it takes time from the thread that they
wait for. Each measurement is a fresh process, first on the idle machine, then next to four busy loops. Settings
alternate within a round, and a printed value is the median over rounds. The fair share is the time that the scheduler
gives: with L loops and T threads on C cores, each of the L + T gets C / (L + T) of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LOOPS, SECONDS = 4, 12.0
TRAINING, INCEPTION = "training", "Inception"


def work(name: str) -> Callable[[], None]:
    """Return a function that runs an iteration of the default run, or passes 10 images through Inception."""
    import torch

    if name == INCEPTION:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        torch.manual_seed(0)
        path = str(next(Path(os.environ["MIXGAN_WEIGHTS"]).glob("*.pth")))
        network = FeatureExtractorInceptionV3("inception", ["768"], feature_extractor_weights_path=path)
        images = torch.randint(0, 256, (10, 3, 32, 32), dtype=torch.uint8)
        return lambda: network(images)
    from hydra import compose, initialize_config_dir

    from mixgan_cli.config.components import build
    from mixgan_cli.config.parse import parse
    from mixgan_cli.config.schema import Run, conf_dir
    from mixgan_cli.models.networks import build_networks
    from mixgan_cli.runtime.device import resolve_hardware
    from mixgan_cli.training.loop import iterate, make_step
    from mixgan_cli.training.setup import begin

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = parse(compose("config", ["hardware=cpu"]), Run)
    compute, source = resolve_hardware(run.hardware), build(run.data)
    state = begin(run, build_networks(run.model, source.shape), source.load(), compute)
    step = make_step(state)
    return lambda: iterate(state, run.seed, step)


def measure(name: str, threads: int) -> float:
    """Return the mean time of an iteration over SECONDS [s]."""
    import torch

    torch.set_num_threads(threads)
    iteration = work(name)
    for _ in range(3):
        iteration()
    count, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < SECONDS:
        iteration()
        count += 1
    return taken / count


def settings_of(spin: str) -> dict[str, str]:
    """Return the environment variables of a setting: OpenMP's default, no spinning, or a number of spins."""
    return {"default": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}.get(spin, {"GOMP_SPINCOUNT": spin})


def run_once(name: str, threads: int, spin: str) -> float:
    """Return the time of an iteration [s], measured in a separate process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    environment = {**kept, "OMP_NUM_THREADS": str(threads), **settings_of(spin)}
    command = [sys.executable, __file__, "--one", name, str(threads)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spins", nargs="*", default=["default", "passive", "100", "1000", "10000", "100000"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    cores = os.cpu_count() or 1
    print("| work | threads | spins | idle [ms] | of default | next to four busy loops [ms] | of the fair share |")
    print("|---|---|---|---|---|---|---|")
    for name in (TRAINING, INCEPTION):
        for threads in (1, cores):
            spins = arguments.spins if threads > 1 else ["default"]
            seconds: dict[tuple[str, bool], list[float]] = {}
            for busy in (False, True):
                loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(LOOPS * busy)]
                try:
                    for _ in range(arguments.rounds):
                        for spin in spins:
                            seconds.setdefault((spin, busy), []).append(run_once(name, threads, spin))
                finally:
                    for loop in loops:
                        loop.kill()
            median = {key: statistics.median(values) for key, values in seconds.items()}
            share = min(1, cores / (LOOPS + threads))
            for spin in spins:
                idle, busy_time = median[spin, False], median[spin, True]
                print(
                    f"| {name} | {threads} | {spin} | {1000 * idle:,.0f} | {idle / median['default', False]:.3f} | "
                    f"{1000 * busy_time:,.0f} | {busy_time * share / median['default', False]:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
