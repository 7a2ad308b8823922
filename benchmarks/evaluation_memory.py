"""Measure time and memory of FID and of the 5-NN test at full size, on random features.

    python benchmarks/evaluation_memory.py [--n 50000] [--features 2048] [--only fid|neighbours]

`make bench-evaluation` runs it with the default sizes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from mixgan_cli.evaluation.metrics.knn import two_sample_test
from mixgan_cli.evaluation.moments import Moments, frechet
from mixgan_cli.runtime.measure import peak_memory, reset_peak_memory

BATCH = 50


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=2_048)
    parser.add_argument("--only", choices=("fid", "neighbours"))
    arguments = parser.parse_args()
    n, size = arguments.n, arguments.features
    print(f"{n:,} generated and {n:,} real samples, {size:,} features, {torch.get_num_threads()} threads")
    print(f"{'':44} {'seconds':>9} {'additional MB':>20}")

    def fid() -> float:
        moments = [Moments(), Moments()]
        for _ in range(0, n, BATCH):
            for part in moments:
                part.add(torch.randn(BATCH, size))
        return frechet(*moments)

    if arguments.only != "neighbours":
        _measured("FID, features streamed in batches of 50", fid)
    if arguments.only != "fid":
        fake, real = torch.randn(n, size), torch.randn(n, size)
        held = 2 * n * size * 4 / 2**20
        shares = _measured("5-NN test, not counting its input", lambda: two_sample_test(fake, real))
        print(f"the input takes {held:,.0f} MB; result for equal distributions: {shares}")


def _measured(title: str, call: Callable[[], object]) -> object:
    before = reset_peak_memory()
    began = time.perf_counter()
    result = call()
    print(f"{title:44} {time.perf_counter() - began:9.1f} {peak_memory() - before:20,.0f}", flush=True)
    return result


if __name__ == "__main__":
    main()
