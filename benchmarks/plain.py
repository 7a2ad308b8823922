"""Compare mixgan with a plain PyTorch loop on the same data, networks and steps.

    python benchmarks/plain.py [hmog_mnist] [mggan_cifar10] [--rounds 3] [--device cuda]        (make bench-plain)

The plain loops use a DataLoader with two workers, networks of torch's own layers, torch's Adam with its default
settings, and `.item()` of the losses in each iteration. `hmog_mnist` mixes its experts as in the formula, with one
weight matrix per sample; `mggan_cifar10` runs its experts one after the other. Both have the same number of parameters
as mixgan's networks, which is checked. mixgan runs its own loop with its defaults for this device, including reports of
the losses and the moving average. Each loop is measured in fresh processes that alternate. Speed is in real images
shown to the discriminator per second: the median over rounds of the median iteration. Memory is the peak above the
level before the networks are built; the memory of worker processes is reported separately. Needs $MIXGAN_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module

from mixgan_cli.runtime.device import resolve_hardware

ROUNDS = 3
SECONDS = {"cpu": 30.0, "cuda": 8.0}
"""Duration of each measurement [s]."""
EXPERIMENTS = {
    "hmog_mnist": ("experiment=hmog2019_hmog", "data=mnist", "training.epochs=null", "training.nimg=15_000_000"),
    "mggan_cifar10": ("experiment=mggan_cifar10",),
}

Iteration = Callable[[], None]


def of_mixgan(name: str, device_name: str) -> tuple[Iteration, int, int]:
    """Return mixgan's iteration, its number of real images, and the number of parameters."""
    from hydra import compose, initialize_config_dir

    from mixgan_cli.config.components import build
    from mixgan_cli.config.parse import parse
    from mixgan_cli.config.schema import Run, conf_dir
    from mixgan_cli.models.networks import build_networks
    from mixgan_cli.training.cuda_graph import maybe_capture
    from mixgan_cli.training.loop import iterate, make_step
    from mixgan_cli.training.setup import begin

    overrides = [*EXPERIMENTS[name], f"hardware.device={device_name}", f"data.root={_data()}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        run = parse(compose("config", overrides), Run)
    compute = resolve_hardware(run.hardware)
    source = build(run.data)
    networks = build_networks(run.model, source.shape)
    state = begin(run, networks, source.load(), compute)
    step, shown = maybe_capture(make_step(state), compute), run.training.batch * run.objective.d_steps

    def iteration() -> None:
        before = state.progress.nimg // run.training.report_nimg
        iterate(state, run.seed, step)
        if state.progress.nimg // run.training.report_nimg > before:
            state.means.read()

    return iteration, shown, sum(p.numel() for network in networks for p in network.parameters())


def of_plain_hmog(device_name: str) -> tuple[Iteration, int, int]:
    """Return the same for a plain loop of the HMoG author's configuration.

    MNIST at 32 px, a tree of depth 5, WGAN-GP, batch 128, 5 critic steps.
    """
    import torch
    from torch import nn
    from torchvision import datasets, transforms

    device, depth, batch, z, hidden = torch.device(device_name), 5, 128, 100, 256 * 4 * 4

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(z, 2**depth - 1)
            self.weight = nn.Parameter(torch.randn(2**depth, hidden, z) / z**0.5)
            self.bias = nn.Parameter(torch.zeros(2**depth, hidden))
            self.trunk = nn.Sequential(
                nn.Unflatten(1, (256, 4, 4)),
                nn.ConvTranspose2d(256, 128, 4, 2, 1), nn.ReLU(),
                nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU(),
                nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Tanh(),
            )  # fmt: skip

        def forward(self, latent):
            left = self.gate(latent).sigmoid()
            density = latent.new_ones(len(latent), 1)
            for level in range(depth):
                split = left[:, 2**level - 1 : 2 ** (level + 1) - 1]
                density = torch.stack((density * split, density * (1 - split)), dim=2).flatten(1)
            weight = torch.einsum("bk,khz->bhz", density, self.weight)  # a matrix for each sample
            mixed = torch.bmm(weight, latent.unsqueeze(2)).squeeze(2) + density @ self.bias
            return self.trunk(mixed)

    generator = Generator().to(device)
    critic = nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1), nn.LayerNorm([64, 16, 16]), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1), nn.LayerNorm([128, 8, 8]), nn.LeakyReLU(0.2),
        nn.Conv2d(128, 256, 4, 2, 1), nn.LayerNorm([256, 4, 4]), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(hidden, 1),
    ).to(device)  # fmt: skip
    settings = {"lr": 1e-4, "betas": (0.5, 0.999), "amsgrad": True}
    of_generator = torch.optim.Adam(generator.parameters(), **settings)
    of_critic = torch.optim.Adam(critic.parameters(), **settings)
    to_images = transforms.Compose([transforms.Resize(32), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    images = _loader(datasets.MNIST(_data(), transform=to_images), batch, device)

    def iteration() -> None:
        for _ in range(5):
            real = next(images)
            fake = generator(torch.randn(batch, z, device=device)).detach()
            alpha = torch.rand(batch, 1, 1, 1, device=device)
            between = (real + alpha * (fake - real)).requires_grad_()
            (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            penalty = 10 * ((gradient.norm(dim=1) - 1) ** 2).mean()
            loss_critic = critic(fake).mean() - critic(real).mean() + penalty
            of_critic.zero_grad()
            loss_critic.backward()
            of_critic.step()
        loss_generator = -critic(generator(torch.randn(batch, z, device=device))).mean()
        of_generator.zero_grad()
        loss_generator.backward()
        of_generator.step()
        _log(loss_critic.item(), loss_generator.item())

    return iteration, 5 * batch, sum(p.numel() for p in [*generator.parameters(), *critic.parameters()])


def of_plain_mggan(device_name: str) -> tuple[Iteration, int, int]:
    """Return the same for a plain loop of MGGAN.

    CIFAR-10, 10 generators with separate first layers, 64 real and 120 generated images.
    """
    import torch
    from data_path import Pictures
    from torch import nn
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    from mixgan_cli.data.datasets.cifar10 import CIFAR10

    device, k, batch, share, z, hidden, beta = torch.device(device_name), 10, 64, 12, 100, 512 * 4 * 4, 0.01

    class Down(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layers = nn.Sequential(
                nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(inputs, outputs, 5, 2), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
            )

        def forward(self, images):
            return self.layers(images)

    class Up(nn.Module):
        def __init__(self, inputs, outputs, last=False):
            super().__init__()
            self.convolution = nn.ConvTranspose2d(inputs, outputs, 5, 2, 1)
            norm = nn.BatchNorm2d(outputs)
            norm.bias = None
            self.after = nn.Tanh() if last else nn.Sequential(norm, nn.ReLU())

        def forward(self, features):
            return self.after(self.convolution(features)[..., :-1, :-1])

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList()
            for _ in range(k):
                norm = nn.BatchNorm1d(hidden)
                norm.bias = None
                self.experts.append(nn.Sequential(nn.Linear(z, hidden), norm, nn.ReLU()))
            self.trunk = nn.Sequential(nn.Unflatten(1, (512, 4, 4)), Up(512, 256), Up(256, 128), Up(128, 3, last=True))

        def forward(self, latent):
            parts = latent.chunk(k)
            return self.trunk(torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)]))

    class Discriminator(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(Down(3, 128), Down(128, 256), Down(256, 512), nn.Flatten())
            self.score, self.expert = nn.Linear(hidden, 1), nn.Linear(hidden, k)

        def forward(self, images):
            features = self.body(images)
            return self.score(features).squeeze(1), self.expert(features)

    generator, discriminator = Generator().to(device), Discriminator().to(device)
    settings = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_generator = torch.optim.Adam(generator.parameters(), **settings)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), **settings)
    cifar10 = CIFAR10(_data(), 32, labels=False).load().train.images_NCHW  # whatever the copy's layout
    images = _loader(Pictures(cifar10.contiguous()), batch, device)
    maker = torch.arange(k, device=device).repeat_interleave(share)

    def iteration() -> None:
        real = next(images)
        latent = torch.rand(k * share, z, device=device) * 2 - 1
        on_real, _ = discriminator(real)
        on_fake, experts = discriminator(generator(latent).detach())
        loss_discriminator = (
            binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
            + binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
            + cross_entropy(experts, maker)
        )
        of_discriminator.zero_grad()
        loss_discriminator.backward()
        of_discriminator.step()
        on_fake, experts = discriminator(generator(latent))
        loss_generator = binary_cross_entropy_with_logits(on_fake, torch.ones_like(on_fake)) + beta * cross_entropy(
            experts, maker
        )
        of_generator.zero_grad()
        loss_generator.backward()
        of_generator.step()
        _log(loss_discriminator.item(), loss_generator.item())

    return iteration, batch, sum(p.numel() for p in [*generator.parameters(), *discriminator.parameters()])


PLAIN = {"hmog_mnist": of_plain_hmog, "mggan_cifar10": of_plain_mggan}


def measure(who: str, name: str, device_name: str) -> dict[str, float]:
    """Return images per second, memory [MB] and the number of parameters, measured in this process."""
    import torch

    from mixgan_cli.runtime.measure import peak_memory, reset_peak_memory, workers_memory

    import_module("mixgan_cli.commands.train")  # so that the memory of imported modules is not counted for either loop
    torch.manual_seed(0)
    before = reset_peak_memory(device_name)
    iteration, shown, parameters = (of_mixgan if who == "mixgan" else lambda n, d: PLAIN[n](d))(name, device_name)
    for _ in range(10 if device_name == "cuda" else 2):
        iteration()
    taken: list[float] = []
    began = time.perf_counter()
    calls = 50 if device_name == "cuda" else 1
    while time.perf_counter() - began < SECONDS[device_name]:
        start = time.perf_counter()
        for _ in range(calls):
            iteration()
        if device_name == "cuda":
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / calls)
    speed = shown / statistics.median(taken)
    memory = {"peak_mb": peak_memory(device_name) - before, "workers_mb": workers_memory()}
    return {"img_per_second": speed, **memory, "parameters": parameters}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(PLAIN))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.device)))
        return
    print("| workload | loop | img/s | min | max | × plain | peak MB | × plain | MB of its workers |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.names:
        found: dict[str, list[dict[str, float]]] = {"plain": [], "mixgan": []}
        for _ in range(arguments.rounds):
            for who in found:
                command = [sys.executable, __file__, "--device", arguments.device, "--one", who, name]
                out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                found[who].append(json.loads(out.splitlines()[-1]))
        parameters = {row["parameters"] for rows in found.values() for row in rows}
        assert len(parameters) == 1, f"{name}: the networks are not the same: {parameters}"
        middle = {
            who: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for who, rows in found.items()
        }
        for who, rows in found.items():
            speeds = [row["img_per_second"] for row in rows]
            speed, memory = (middle[who][key] for key in ("img_per_second", "peak_mb"))
            of_speed, of_memory = (middle[who][key] / middle["plain"][key] for key in ("img_per_second", "peak_mb"))
            print(
                f"| {name} | {who} | {speed:,.0f} | {min(speeds):,.0f} | {max(speeds):,.0f} | {of_speed:.2f} | "
                f"{memory:,.0f} | {of_memory:.2f} | {middle[who]['workers_mb']:,.0f} |",
                flush=True,
            )


def _loader(images, batch: int, device) -> Iterator:
    """Yield batches on the device, epoch after epoch."""
    from torch import Tensor
    from torch.utils.data import DataLoader

    loader = DataLoader(
        images, batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    while True:
        for loaded in loader:  # images, or images and labels
            yield (loaded if isinstance(loaded, Tensor) else loaded[0]).to(device, non_blocking=True)


def _data() -> str:
    return os.environ["MIXGAN_DATA"]


def _log(*losses: float) -> None:
    """Do nothing, in place of a user's progress bar."""


if __name__ == "__main__":
    main()
