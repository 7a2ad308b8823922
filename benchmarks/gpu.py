"""Run all GPU benchmarks, the most important first, in eight minutes.

    python benchmarks/gpu.py [PART ...] [--seconds 480]        (make bench-gpu)

Each part is a command that prints a table. Parts that do not fit into the time are stopped or left out, and listed.
$MIXGAN_DATA is the folder of MNIST and CIFAR-10, and $MIXGAN_WEIGHTS that of the Inception weights.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

BENCH = [sys.executable, "-m", "mixgan_cli", "bench", "-m", "hardware=gpu"]
PAPER = [*BENCH, "experiment=mggan_cifar10"]
LARGE = [*PAPER, "training.batch=512", "training.fakes=960"]  # 8 times the paper's

KERNELS = [sys.executable, "benchmarks/kernels.py", "experiment=mggan_cifar10"]

PARTS = {
    "kernels": KERNELS,
    "kernels-channels-last": [*KERNELS, "hardware.channels_last=true"],
    "capture": [*PAPER, "hardware.capture=true,false", "hardware.precision=bf16,tf32"],
    "plain": [sys.executable, "benchmarks/plain.py", "--device", "cuda", "--rounds", "1"],
    "large": [
        *LARGE,
        "hardware.channels_last=false,true",
        "hardware.compile=false,true",
    ],
    "k": [sys.executable, "benchmarks/k_sweep.py", "--device", "cuda", "--ks", "1", "32", "--rounds", "1"],
    "evaluation": [sys.executable, "benchmarks/evaluation_speed.py", "--device", "cuda", "--n", "5000", "--compile"],
    "models": [*BENCH, "data=cifar10", "model=mggan,madgan,mog,hmog,megan", "model.k=8"],
    "experts": [sys.executable, "benchmarks/whole_experts.py", "--device", "cuda"],
}


def main() -> int:
    """Run the parts, and return 1 if one failed."""
    parser = argparse.ArgumentParser(description="Run all GPU benchmarks.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"parts to run: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=8 * 60, help="time for all parts together")
    options = parser.parse_args()
    began, failed, left = time.monotonic(), [], []
    for name in options.parts or PARTS:
        command = PARTS[name]
        remaining = options.seconds - (time.monotonic() - began)
        if remaining < 0:
            left.append(name)
            continue
        print(f"\n## {name}\n\n$ {' '.join(command[1:])}", flush=True)
        process = subprocess.Popen(command, start_new_session=True)
        try:
            failed += [name] if process.wait(timeout=remaining) else []
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
            left.append(name)
    print(f"\n{time.monotonic() - began:.0f} s; failed: {failed or 'none'}; not run for lack of time: {left or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
