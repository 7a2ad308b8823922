"""The work of one iteration of each published preset: operations, bytes and FLOP, counted without running them.

Tensors are fake, with shapes but no numbers, so a preset of any size is counted in seconds. What is counted is what a
GPU gets by default, bf16 and one pass of real and fake, but the gradient penalty is not compiled. The counts are in
budgets.csv. A count that grows by more than 2 % fails. If it must grow, or if it has become smaller, write the new one:
`python -m tests.training.test_budgets > tests/training/budgets.csv`.
"""

import csv
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mixgan_cli.config.components import build
from mixgan_cli.data.batches import Batches
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime.device import Compute
from mixgan_cli.runtime.measure import OpCounter
from mixgan_cli.training import loop
from mixgan_cli.training.setup import begin
from tests.conftest import composed

PRESETS = {
    "mggan_cifar10": ("experiment=mggan_cifar10",),
    "megan_cifar10": ("experiment=megan_cifar10",),
    "megan_celeba": ("experiment=megan_celeba", "data.root=nowhere"),
    "hmog2019_hmog on MNIST": ("experiment=hmog2019_hmog", "data=mnist", "training.nimg=1000", "training.epochs=null"),
    "hmog on CelebA": ("model=hmog", "model.k=8", "data=celeba", "data.root=nowhere", "training.batch=128"),
    "madgan on CIFAR-10": ("model=madgan", "data=cifar10"),
    "mggan_ring": ("experiment=mggan_ring",),
    "r3gan_cifar10": ("experiment=r3gan_cifar10",),
    "sngan_cifar10": ("experiment=sngan_cifar10",),
    "the default run": (),
}
TABLE = Path(__file__).with_name("budgets.csv")
COLUMNS = ("operations", "MB", "GFLOP")
TOLERANCE = 1.02
VERSION = "2.14"


class Zeros(Batches):
    """Samples of a shape."""

    def __init__(self, shape):
        self.shape = shape

    def batches(self, seed, device, place):
        return self

    def get_batch(self, nimg, batch):
        return torch.zeros(batch, *self.shape)

    def describe(self):
        return {}


def place(compute, network):
    """As `Compute.place`, for fake tensors."""
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(torch.empty(value.shape), value.requires_grad)
        for name, value in module._buffers.items():
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
    return network


def count(name, patch):
    """Return the counts of one iteration of a preset."""
    patch.setattr(Compute, "place", place)
    patch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    run = composed(*PRESETS[name], "training.ema_half_life_nimg=1000")
    shape = build(run.data).shape
    networks = build_networks(run.model, shape)
    with FakeTensorMode():
        state = begin(run, networks, Zeros(shape), Compute(torch.device("cpu"), "bf16"))
        critic = state.phases.discriminator
        critic.one_pass = critic.allows_one_pass
        loop.iterate(state, 0)  # creates the optimisers' state
        with OpCounter(lambda dtype, flops, moved: 0.0) as counted:
            loop.iterate(state, 0)
    flops = sum(counted.flops.values())
    return dict(zip(COLUMNS, (counted.operations, round(counted.bytes / 1e6, 1), round(flops / 1e9, 3)), strict=True))


def budgets():
    """Return the table."""
    with TABLE.open() as file:
        return {row["preset"]: {name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file)}


@pytest.mark.skipif(
    not torch.__version__.startswith(VERSION), reason=f"budgets.csv has the counts of PyTorch {VERSION}; others differ"
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.integ] if name == "megan_celeba" else []) for name in PRESETS]
)
def test_iteration_stays_within_its_budget(name, monkeypatch):
    allowed, counted = budgets()[name], count(name, monkeypatch)
    for column in COLUMNS:
        assert counted[column] <= TOLERANCE * allowed[column], column
        assert counted[column] >= allowed[column] / TOLERANCE, f"{column}: less than in budgets.csv; write the new one"


if __name__ == "__main__":
    print("preset,operations,MB,GFLOP")
    for preset in PRESETS:
        with pytest.MonkeyPatch.context() as patched:
            print(preset, *count(preset, patched).values(), sep=",", flush=True)
