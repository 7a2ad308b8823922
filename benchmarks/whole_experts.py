"""Compare three implementations of K whole DCGAN generators: time and peak memory of a forward and backward pass.

    python benchmarks/whole_experts.py [--device cuda] [K ...]

All generators get the same latents. `loop` runs K modules one after the other and stacks their images. `grouped` is one
network with K times the channels. Its first layer is an ordinary transposed convolution, because all experts read the
same latents; the other layers have K groups. `vmap` maps one module over the stacked weights with torch.func. All three
run batch norm in training mode and update its running statistics; vmap accepts this because the statistics are stacked,
one set per expert. Before the measurement, they get the same weights, and their images, gradients and running
statistics are compared in double precision. Each is then measured in fresh processes that alternate. Times are medians
of all repetitions. Memory is the peak above weights and gradients: of the process on the CPU, of PyTorch's allocator on
a GPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from mixgan_cli.runtime.measure import peak_memory, reset_peak_memory

BATCH, LATENT = 64, 128
REPETITIONS, PROCESSES = {"cpu": 5, "cuda": 50}, 2


def dcgan(k: int = 1) -> nn.Sequential:
    """Return one DCGAN generator of 32 × 32 images, or k generators as one network [B, Z, 1, 1] -> [B, K * 3, H, W].

    Its first weight is [Z, K * 256, 4, 4]; every other parameter and buffer has the experts in its first axis.
    """
    return nn.Sequential(
        nn.ConvTranspose2d(LATENT, k * 256, 4, 1, 0, bias=False),
        nn.BatchNorm2d(k * 256),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(k * 256, k * 128, 4, 2, 1, groups=k, bias=False),
        nn.BatchNorm2d(k * 128),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(k * 128, k * 64, 4, 2, 1, groups=k, bias=False),
        nn.BatchNorm2d(k * 64),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(k * 64, k * 3, 4, 2, 1, groups=k, bias=False),
        nn.Tanh(),
    )


class Loop:
    """A loop over the experts."""

    def __init__(self, experts: list[nn.Sequential]) -> None:
        self.experts = experts
        self.parameters = [parameter for expert in experts for parameter in expert.parameters()]

    def __call__(self, latent_BZ11: Tensor) -> Tensor:
        """Return the images [B, K, 3, 32, 32]."""
        return torch.stack([expert(latent_BZ11) for expert in self.experts], dim=1)

    def state(self) -> dict[str, Tensor]:
        """Return every gradient and every running statistic, each stacked over the experts."""
        parts = [gradients(dict(expert.named_parameters())) | statistics_of(expert) for expert in self.experts]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


class Grouped:
    """One network with grouped convolutions: one group per expert."""

    def __init__(self, experts: list[nn.Sequential]) -> None:
        self.k = len(experts)
        self.network = dcgan(self.k).to(next(experts[0].parameters()))
        self.parameters = list(self.network.parameters())
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(torch.cat([expert.get_parameter(name) for expert in experts], int(name == "0.weight")))

    def __call__(self, latent_BZ11: Tensor) -> Tensor:
        """Return the images [B, K, 3, 32, 32]."""
        return self.network(latent_BZ11).unflatten(1, (self.k, 3))

    def state(self) -> dict[str, Tensor]:
        """Return every gradient and every running statistic, each stacked over the experts."""
        parts = gradients(dict(self.network.named_parameters())) | statistics_of(self.network)
        return {
            name: one.unflatten(axis, (self.k, -1)).movedim(axis, 0)
            for name, one in parts.items()
            for axis in [int(name == "0.weight")]
        }


class Vmap:
    """One expert module, mapped over the stacked weights with torch.vmap."""

    def __init__(self, experts: list[nn.Sequential]) -> None:
        modules: list[nn.Module] = [*experts]
        self.weights, self.buffers = stack_module_state(modules)
        self.parameters = list(self.weights.values())
        self.expert = dcgan().to("meta")

    def __call__(self, latent_BZ11: Tensor) -> Tensor:
        """Return the images [B, K, 3, 32, 32]."""

        def run(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            return functional_call(self.expert, (weights, buffers), (latent_BZ11,))

        return torch.vmap(run, out_dims=1)(self.weights, self.buffers)

    def state(self) -> dict[str, Tensor]:
        """Return every gradient and every running statistic, each stacked over the experts."""
        return gradients(self.weights) | {name: one for name, one in self.buffers.items() if "running" in name}


WAYS: dict[str, type[Loop] | type[Grouped] | type[Vmap]] = {"loop": Loop, "grouped": Grouped, "vmap": Vmap}


def gradients(parameters: dict[str, nn.Parameter] | dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient of each parameter by its name."""
    return {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Return batch norm's running means and variances by their names."""
    return {name: buffer for name, buffer in network.named_buffers() if "running" in name}


def check(k: int, device: str) -> None:
    """Raise an AssertionError unless all implementations compute the same images, gradients and running statistics."""
    torch.manual_seed(0)
    experts = [dcgan().to(device, torch.float64) for _ in range(k)]
    latent_BZ11 = torch.randn(BATCH, LATENT, 1, 1, device=device, dtype=torch.float64)
    target = torch.randn(BATCH, k, 3, 32, 32, device=device, dtype=torch.float64)
    results = {}
    for name in ["grouped", "vmap", "loop"]:  # the loop last: it runs the experts themselves, the others copies of them
        way = WAYS[name](experts)
        images = way(latent_BZ11)
        (images - target).square().sum().backward()
        results[name] = {"images": images.detach()} | way.state()
    assert len(results["loop"]) == 1 + 4 + 6 + 6  # images; gradients of 4 convolutions and 3 batch norms; 3 statistics
    torch.testing.assert_close(results["grouped"], results["loop"])
    torch.testing.assert_close(results["vmap"], results["loop"])


def measure(name: str, k: int, device: str) -> tuple[list[float], float]:
    """Return the time of each repetition [s] and the peak memory [MB], measured in this process."""
    torch.manual_seed(0)
    way = WAYS[name]([dcgan().to(device) for _ in range(k)])
    latent_BZ11 = torch.randn(BATCH, LATENT, 1, 1, device=device)
    way(latent_BZ11[:2]).square().sum().backward()  # loads the kernels, and leaves the gradients in place
    before = reset_peak_memory(device)
    seconds = []
    for _ in range(REPETITIONS[device] + 1):
        began = time.perf_counter()
        way(latent_BZ11).square().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[1:], peak_memory(device) - before


def main() -> None:
    """Check and measure every implementation for every K, and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Compare three implementations of K whole DCGAN generators.")
    parser.add_argument("ks", nargs="*", type=int, default=[2, 5, 10], metavar="K", help="numbers of experts")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"batch {BATCH}, latent {LATENT}, {where}, torch {torch.__version__}\n")
    print("| K | implementation | median ms | spread (IQR) | × fastest | peak MB |")
    print("|--:|:----|----------:|-------------:|--------------:|--------:|")
    fresh = multiprocessing.get_context("spawn").Pool
    for k in options.ks:
        seconds: dict[str, list[float]] = {name: [] for name in WAYS}
        memory = dict.fromkeys(WAYS, 0.0)
        with fresh(1) as pool:
            pool.apply(check, (k, options.device))
        for _ in range(PROCESSES):
            for name in WAYS:
                with fresh(1) as pool:
                    times, peak = pool.apply(measure, (name, k, options.device))
                seconds[name].extend(times)
                memory[name] = max(memory[name], peak)
        fastest = min(statistics.median(times) for times in seconds.values())
        for name, times in seconds.items():
            middle = statistics.median(times)
            low, _, high = statistics.quantiles(times, n=4)
            row = f"{middle * 1e3:.1f} | {(high - low) * 1e3:.1f} | {middle / fastest:.2f} | {memory[name]:.0f}"
            print(f"| {k} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
