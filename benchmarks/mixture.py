"""Compare three implementations of the mixture layer: time and peak memory of a forward and backward pass on the CPU.

    python benchmarks/mixture.py [K ...]        (make bench)

`fused` is the implementation of mixgan: (a ⊗ z) times the stacked weights, one matrix product. `per sample` first mixes
the weights into a matrix [H, Z] per sample, as in the formula Σ a_i(z) W_i z and in the HMoG author's code. `all
experts` computes the outputs of all experts [K, B, H] and then mixes them. `products` is the floor of `fused`: its
three matrix products alone, with preallocated outputs. Each is measured in fresh processes that alternate. Times are
medians of all repetitions. Memory is the peak of the process above weights and gradients. Everything is measured twice:
with freed memory returned to the system, which is the default of a process, and with freed memory kept, as mixgan sets
it (runtime/device.py).
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable

BATCH, LATENT, HIDDEN = 128, 100, 4096
REPETITIONS, PROCESSES = 15, 3


def layers() -> dict[str, Callable]:
    """Return the implementations, each a function of (experts, latent_BZ, weights_BK)."""
    import torch

    def per_sample(experts, latent_BZ, weights_BK):
        weight_BZH = torch.einsum("bk,kzh->bzh", weights_BK, experts.weight_KZH)
        return torch.bmm(latent_BZ.unsqueeze(1), weight_BZH).squeeze(1) + weights_BK @ experts.bias_KH

    def all_experts(experts, latent_BZ, weights_BK):
        return experts.mix_outputs(experts(experts.expand(latent_BZ)), weights_BK)

    def fused(experts, latent_BZ, weights_BK):
        return experts.mix(latent_BZ, weights_BK)

    return {"fused": fused, "all experts": all_experts, "per sample": per_sample}


def products(k: int) -> Callable[[], None]:
    """Return a function that runs the fused layer's matrix products: forward, input gradient, weight gradient."""
    import torch

    inputs, weights, outputs = (torch.randn(s) for s in ((BATCH, k * LATENT), (k * LATENT, HIDDEN), (BATCH, HIDDEN)))
    results = [torch.empty_like(part) for part in (outputs, inputs, weights)]

    def work() -> None:
        torch.mm(inputs, weights, out=results[0])
        torch.mm(outputs, weights.T, out=results[1])
        torch.mm(inputs.T, outputs, out=results[2])

    return work


def measure(name: str, k: int, keeping: bool) -> tuple[list[float], list[float], float]:
    """Return the times of the forward passes and of the forward and backward passes [s], and the peak memory [MB]."""
    import torch

    from mixgan_cli.models.experts import LinearExperts
    from mixgan_cli.runtime.device import keep_freed_memory
    from mixgan_cli.runtime.measure import peak_memory, reset_peak_memory

    if keeping:
        keep_freed_memory()
    if name == "products":
        return [0.0], _seconds(products(k)), 0.0
    torch.manual_seed(0)
    experts, layer = LinearExperts(k, LATENT, HIDDEN), layers()[name]
    latent_BZ, weights_BK = torch.randn(BATCH, LATENT), torch.rand(BATCH, k).softmax(dim=1).requires_grad_()
    expected = experts.mix(latent_BZ[:4], weights_BK[:4])
    torch.testing.assert_close(layer(experts, latent_BZ[:4], weights_BK[:4]), expected)  # all compute the same values
    for parameter in experts.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        forward = _seconds(lambda: layer(experts, latent_BZ, weights_BK))
    before = reset_peak_memory()
    both = _seconds(lambda: layer(experts, latent_BZ, weights_BK).square().sum().backward())
    return forward, both, peak_memory() - before


def _seconds(work: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(REPETITIONS + 2):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken[2:]


def main(ks: list[int]) -> None:
    """Measure every implementation for every K, and print a table and a JSON array."""
    import torch

    print(
        f"batch {BATCH}, latent {LATENT}, hidden {HIDDEN}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print()
    print("| freed memory | K | layer | forward ms | × fused | with backward ms | spread | × fused | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    results = []
    for keeping in (False, True):
        for k in ks:
            found: dict[str, list[tuple[list[float], list[float], float]]] = {}
            for _ in range(PROCESSES):
                for name in (*layers(), "products"):
                    with multiprocessing.get_context("spawn").Pool(1) as pool:
                        found.setdefault(name, []).append(pool.apply(measure, (name, k, keeping)))
            fused: tuple[float, float] | None = None
            for name, rows in found.items():
                forward, both = ([taken for row in rows for taken in row[part]] for part in (0, 1))
                middle = 1e3 * statistics.median(forward), 1e3 * statistics.median(both)
                fused = fused or middle
                low, _, high = statistics.quantiles(both, n=4)
                memory = max(row[2] for row in rows)
                way = "kept" if keeping else "returned"
                print(
                    f"| {way} | {k} | {name} | {middle[0]:.2f} | {middle[0] / fused[0]:.2f} | {middle[1]:.2f} | "
                    f"{1e3 * (high - low):.2f} | {middle[1] / fused[1]:.2f} | {memory:.0f} |",
                    flush=True,
                )
                results.append({"keeping": keeping, "k": k, "layer": name, "ms": middle[1], "peak_mb": memory})
    print(json.dumps(results))


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [4, 8, 16, 32])
