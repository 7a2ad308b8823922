"""All that needs a GPU to be measured, most important first, in eight minutes.

    python benchmarks/gpu.py        (make bench-gpu)

Each part is a command of its own and prints its table; what would begin after the eight minutes is left out, and named.
$MIXGAN_DATA says where MNIST and CIFAR-10 are, $MIXGAN_WEIGHTS where the Inception weights are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

SECONDS = 8 * 60
BENCH = [sys.executable, "-m", "mixgan_cli", "bench", "-m", "hardware=gpu"]
PAPER = [*BENCH, "experiment=mggan_cifar10"]
LARGE = [*PAPER, "training.batch=512", "training.fakes=960"]  # 8 times the paper's

PARTS = {
    "MGGAN on CIFAR-10, captured or not": [*PAPER, "hardware.capture=true,false", "hardware.precision=bf16,tf32"],
    "beside a plain loop": [sys.executable, "benchmarks/plain.py", "--device", "cuda", "--rounds", "1"],
    "at batch 512: memory format, compiled": [
        *LARGE,
        "hardware.channels_last=false,true",
        "hardware.compile=false,true",
    ],
    "what K costs": [sys.executable, "benchmarks/k_sweep.py", "--device", "cuda", "--ks", "1", "32", "--rounds", "1"],
    "evaluation": [sys.executable, "benchmarks/evaluation_speed.py", "--device", "cuda", "--n", "5000", "--compile"],
    "every model at its own recipe": [*BENCH, "data=cifar10", "model=mggan,madgan,mog,hmog,megan", "model.k=8"],
    "whole networks as experts": [sys.executable, "benchmarks/whole_experts.py", "--device", "cuda"],
}


def main() -> int:
    """Run the parts, and return 1 where one failed."""
    began, failed, left = time.monotonic(), [], []
    for title, command in PARTS.items():
        remaining = SECONDS - (time.monotonic() - began)
        if remaining < 0:
            left.append(title)
            continue
        print(f"\n## {title}\n\n$ {' '.join(command[1:])}", flush=True)
        process = subprocess.Popen(command, start_new_session=True)
        try:
            failed += [title] if process.wait(timeout=remaining) else []
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
            left.append(title)
    print(f"\n{time.monotonic() - began:.0f} s; failed: {failed or 'none'}; for lack of time: {left or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
