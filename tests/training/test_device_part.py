"""The device part of an iteration stays on its device and never waits for it.

This needs no GPU. The device is one that PyTorch does not know, and its tensors have shapes but no numbers (fake
tensors). So an operation that reads a number on the host, or that uses a tensor of another device, fails.
"""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training import loop, setup
from mixgan_cli.training.bf16_weights import Bf16Weights
from mixgan_cli.training.setup import begin
from tests.conftest import ALL, composed
from tests.training.test_iteration import ONE_EXPERT, RECIPES, SHAPE

if torch.cuda.is_available():
    pytest.skip(
        "a process with this device cannot pin memory for a GPU. Nothing is lost: test_gpu.py shows the same there",
        allow_module_level=True,
    )


class Backend(_DummyBackendModule):
    """The device has no random numbers, but the other tests of the process keep its state with torch.random."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]

    def get_rng_state(self, device):
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state, device):
        pass


_setup_privateuseone_for_python_backend("pretend", Backend())
AUTOCAST = torch.library.Library("_", "IMPL")
AUTOCAST.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
DEVICE = torch.device("pretend", 0)


class Reals:
    """Real images on the device."""

    def batches(self, seed, device, place):
        return self

    def get_batch(self, nimg, batch):
        return torch.zeros(batch, *SHAPE, device=DEVICE)

    def describe(self):
        return {}


class OnDevice(TorchDispatchMode):
    """Fail at a tensor of another device, and at operations that need a compiler on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, out)):
            assert not isinstance(leaf, torch.Tensor) or leaf.device == DEVICE, f"{func} uses {leaf.device}"
        name = str(func)
        assert not name.startswith("aten.special_entr"), "compiles a kernel at its first use on a GPU"
        assert not (name.startswith("aten.bmm") and args[0].shape[2] == 1), "an outer product, compiled by Triton"
        return out


def place(compute, network):
    """As `Compute.place`, for fake tensors, which cannot be moved."""
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(torch.empty(value.shape, device=DEVICE))
        for name, value in module._buffers.items():
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=DEVICE)
    return network


OPTIONS = RECIPES | {
    "hmog, r1": ("model=hmog", "objective=r1"),
    "hmog, hinge, flips": ("model=hmog", "objective=hinge", "training.flips=true"),
    "mog, constant experts": ("model=mog", "model/experts=constant"),
    "mggan, one against all": ("model=mggan", "model.head.form=one_vs_all", "model.beta=0.5"),
    "madgan, heads": ("model=madgan", "model/experts=heads"),
    "gumbel, k networks": ("model=hmog", "model/gate=gumbel", "model/experts=networks"),
}


PRECISIONS = ("float32", "bf16")
LARGE = ("hmog, r3gan's networks", "mggan, sngan's networks", "gan, sngan's dcgan", "mggan, r3gan, k n fakes")
SMALL = [name for name in OPTIONS if name not in LARGE]
CASES = [
    *(
        (name, precision)
        for n, name in enumerate(SMALL)
        for precision in (PRECISIONS if ALL else PRECISIONS[n % 2 :][:1])
    ),
    *((name, "bf16") for name in LARGE),
]
"""One precision for each recipe, in turn; `make test-all` tries both."""


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_iteration_stays_on_its_device(name, precision, monkeypatch):
    monkeypatch.setattr(Compute, "place", place)
    monkeypatch.setattr(setup, "initialise_head", lambda *_: None)  # before the networks are on the device
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    # autocast converts nothing on this device, so the copies of the weights would not fit
    monkeypatch.setattr(Bf16Weights, "in_place", lambda self: nullcontext())
    overrides = [*OPTIONS[name], "model.backbone.channels=4", "model.latent.size=4", "training.batch=8"]
    overrides += ["training.ema_half_life_nimg=100", f"model.k={1 if ONE_EXPERT & set(OPTIONS[name]) else 2}"]
    run = composed(*overrides)
    networks = build_networks(run.model, SHAPE)
    with FakeTensorMode():
        state = begin(run, networks, Reals(), Compute(DEVICE, precision))
        loop.iterate(state, 3)  # creates the optimisers' state
        inputs = loop.read_inputs(state)
        with OnDevice():
            loop.make_step(state)(inputs)
