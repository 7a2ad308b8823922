"""The mixture layer against two literal ones: time and peak memory of one forward and backward pass on the CPU.

    python benchmarks/mixture.py [K ...]        (make bench)

`fused` is what mixgan runs: (a ⊗ z) times the stacked weights, one product. `per sample` mixes the weights first, as
the formula Σ a_i(z) W_i z reads and the HMoG author's code does: a matrix [H, Z] a sample. `all experts` computes
every expert's output [K, B, H], then mixes them. Each is measured in a fresh process, alternating between them; medians
of all repetitions. Memory is the process's peak above its level with weights and gradients in place.
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
    """Return each way to compute the mixture from (experts, latent_BZ, weights_BK)."""
    import torch

    def per_sample(experts, latent_BZ, weights_BK):
        weight_BZH = torch.einsum("bk,kzh->bzh", weights_BK, experts.weight_KZH)
        return torch.bmm(latent_BZ.unsqueeze(1), weight_BZH).squeeze(1) + weights_BK @ experts.bias_KH

    def all_experts(experts, latent_BZ, weights_BK):
        return experts.weighted(experts(experts.to_each(latent_BZ)), weights_BK)

    def fused(experts, latent_BZ, weights_BK):
        return experts.mix(latent_BZ, weights_BK)

    return {"fused": fused, "all experts": all_experts, "per sample": per_sample}


def measure(name: str, k: int) -> tuple[list[float], float]:
    """Return the seconds of each repetition, and the peak memory in MB, of this process alone."""
    import torch
    from memory import peak, start_peak

    from mixgan_cli.models.experts import LinearExperts

    torch.manual_seed(0)
    experts, layer = LinearExperts(k, LATENT, HIDDEN), layers()[name]
    latent_BZ, weights_BK = torch.randn(BATCH, LATENT), torch.rand(BATCH, k).softmax(dim=1).requires_grad_()
    expected = experts.mix(latent_BZ[:4], weights_BK[:4])
    torch.testing.assert_close(layer(experts, latent_BZ[:4], weights_BK[:4]), expected)  # they compute the same
    for parameter in experts.parameters():
        parameter.grad = torch.zeros_like(parameter)
    seconds, before = [], start_peak()
    for _ in range(REPETITIONS + 2):
        began = time.perf_counter()
        layer(experts, latent_BZ, weights_BK).square().sum().backward()
        seconds.append(time.perf_counter() - began)
    return seconds[2:], peak() - before


def main(ks: list[int]) -> None:
    """Measure every layer for every K, and print a table and a JSON object."""
    import torch

    print(
        f"batch {BATCH}, latent {LATENT}, hidden {HIDDEN}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'K':>3}  {'layer':<12}{'ms':>9}{'spread':>9}{'× fused':>9}{'peak MB':>9}")
    told = []
    for k in ks:
        seconds: dict[str, list[float]] = {}
        memory: dict[str, float] = {}
        for _ in range(PROCESSES):
            for name in layers():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    times, peak = pool.apply(measure, (name, k))
                seconds.setdefault(name, []).extend(times)
                memory[name] = max(peak, memory.get(name, 0.0))
        fused = statistics.median(seconds["fused"])
        for name, times in seconds.items():
            middle = statistics.median(times)
            low, _, high = statistics.quantiles(times, n=4)
            row = f"{middle * 1e3:>9.2f}{(high - low) * 1e3:>9.2f}{middle / fused:>9.2f}{memory[name]:>9.0f}"
            print(f"{k:>3}  {name:<12}{row}")
            told.append({"k": k, "layer": name, "ms": middle * 1e3, "peak_mb": memory[name]})
    print(json.dumps(told))


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [4, 8, 16, 32])
