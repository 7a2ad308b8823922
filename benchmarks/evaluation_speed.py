"""Measure the speed of the Inception network, and the change of FID if it computes in bfloat16.

    python benchmarks/evaluation_speed.py [--n 1000] [--layer 768] [--compile] [--device cuda]    (make bench-extractor)

The first n training images of CIFAR-10 are compared with its first n test images, in batches of 50. The time excludes
the first two batches. The first row is the network as torch-fidelity builds it, the second as mixgan runs it. Needs
$MIXGAN_DATA and $MIXGAN_WEIGHTS.
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from mixgan_cli.data.datasets.cifar10 import CIFAR10
from mixgan_cli.evaluation.extractors import INCEPTION
from mixgan_cli.evaluation.features import Extractor
from mixgan_cli.evaluation.inception import find_weights
from mixgan_cli.evaluation.moments import Moments, frechet

BATCH = 50


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--layer", default="768")
    parser.add_argument("--compile", action="store_true", help="also measure the compiled network (minutes on a CPU)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    dataset = CIFAR10(os.environ["MIXGAN_DATA"], 32, labels=False).load()
    weights = find_weights(None, False)
    sets = [packed[torch.arange(arguments.n)] for packed in (dataset.train, dataset.held_out)]
    n, threads = arguments.n, torch.get_num_threads()
    print(f"{n} training and {n} test images, layer {arguments.layer}, {threads} threads")
    print("| memory format | precision | compiled | images/s | FID | change from the first row |")
    print("|---|---|---|---|---|---|")
    first = None
    for memory_format, precision, compiled in (
        (torch.contiguous_format, "float32", False),
        (torch.channels_last, "float32", False),
        (torch.channels_last, "float32", True),
        (torch.channels_last, "bf16", False),
        (torch.channels_last, "bf16", True),
    ):
        if compiled and not arguments.compile:
            continue
        extractor = Extractor(INCEPTION, (arguments.layer,), lambda: weights, BATCH, device, precision)
        network = extractor._network((arguments.layer,)).to(memory_format=memory_format)
        if compiled:
            network.compile(dynamic=False)
        moments, seconds = [], []
        for images in sets:
            found = Moments()
            for batch in images.split(BATCH):
                seconds.append(-time.perf_counter())
                found.add(extractor._apply(network, batch.to(device))[arguments.layer])
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[-1] += time.perf_counter()
            moments.append(found)
        fid = frechet(*moments)
        first = first or fid
        name = str(memory_format).removeprefix("torch.")
        rate = BATCH * len(seconds[2:]) / sum(seconds[2:])
        told = f"{rate:.1f} | {fid:.5f} | {100 * (fid / first - 1):+.3f} %"
        print(f"| {name} | {precision} | {'yes' if compiled else 'no'} | {told} |", flush=True)


if __name__ == "__main__":
    main()
