"""The device part of an iteration depends only on its inputs and on tensors on the device, so it can be captured.

A CUDA graph replays the operations of the captured iteration, with the constants that the host provided then. Here
torch.fx does the same on the CPU: it traces each operation, including those of gradients and optimisers, and replays
them. A value that comes from the host but not from the inputs differs after the first replay. An operation that reads a
value from the device cannot be traced at all.
"""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from mixgan_cli.config.compose import groups
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.packed import Packed
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.checkpoint import State
from mixgan_cli.training.loop import iterate, make_step
from mixgan_cli.training.setup import begin
from tests.conftest import composed

SHAPE, STEPS = (1, 8, 8), 20
CPU = Compute(torch.device("cpu"))
ONE_EXPERT = {"model=gan", "model=d2gan"}
RECIPES = {
    **{model: (f"model={model}",) for model in groups()["model"]},
    "megan, its schedules fast": (
        "model=megan",
        "model.gate.schedule.every=1",
        "model.gate.schedule.rate=0.05",
        "objective.terms.balance.schedule.every=1",
        "objective.terms.balance.schedule.rate=0.05",
    ),
    "hmog, leaves left out": ("model=hmog", "model.gate.dropout=0.3"),
    "mggan, pairwise": ("model=mggan", "model.head.form=pairwise", "model.beta=0.5"),
    "mggan, one game for each expert": ("model=mggan", "objective.fakes=per_expert"),
    "gan, augmented": ("model=gan", "objective/augment=diffaugment", "objective.augment.cutout=0.5"),
    "gan, adaptive augmentation": (
        "model=gan",
        "objective=non_saturating",
        "objective/augment=ada",
        "objective.augment.p=0.5",
        "objective.augment.rise=100",
    ),
    "gan, spectral norm": ("model=gan", "objective=hinge", "model.backbone.spectral_norm=true"),
    "gan, r3gan, all schedules fast": (
        "model=gan",
        "objective=r3gan",
        "objective/optimizer=r3gan_burn_in",
        "objective.optimizer.generator.schedule.end=100",
        "objective.optimizer.generator.beta2_schedule.end=100",
        "objective.optimizer.discriminator.beta2_schedule.end=100",
        "+schedule@objective.penalty.schedule=burn_in",
        "objective.penalty.schedule.initial=1",
        "objective.penalty.schedule.final=0.1",
        "objective/augment=diffaugment",
        "+schedule@objective.augment.schedule=burn_in",
        "+schedule@training.ema_schedule=burn_in",
        "training.nimg=160",
    ),
    "gan, r3gan's augmentation": (
        "model=gan",
        "objective=r3gan",
        "objective/augment=r3gan",
        "objective.augment.schedule.end=100",
    ),
    "mggan, r3gan": ("model=mggan", "objective=r3gan", "model.backbone.discriminator_norm=none"),
    "mggan, r3gan, k n fakes": (
        "model=mggan",
        "objective=r3gan",
        "objective.fakes=per_expert",
        "model.backbone.discriminator_norm=none",
    ),
    "hmog, r3gan's networks": ("model=hmog", "model/backbone=r3gan", "model/experts=basis", "objective=r3gan"),
    "mggan, sngan's networks": (
        "model=mggan",
        "model/backbone=sngan_resnet",
        "model/experts=linear",
        "objective=hinge",
        "objective.d_steps=1",
    ),
    "gan, sngan's dcgan": ("model=gan", "model/backbone=sngan_dcgan", "objective=hinge", "objective.d_steps=1"),
    "mog, minibatch, features matched": (
        "model=mog",
        "objective=feature_matching",
        "model/head=minibatch",
        "model.head.kernels=5",
    ),
    "hmog, unrolled": ("model=hmog", "objective=unrolled", "objective.unroll.steps=2"),
    "megan, clipped": ("model=megan", "objective=wgan_clip", "objective/optimizer=dcgan"),
    "mog, fewer fakes than reals": ("model=mog", "objective=wgan_gp", "training.fakes=4"),
}


def begun(name: str, compute: Compute = CPU) -> State:
    overrides = [*RECIPES[name], "model.backbone.channels=4", "model.latent.size=4", "training.batch=8"]
    overrides += ["training.flips=true", "training.ema_half_life_nimg=100", "training.ema_ramp_up=0.5"]
    run = composed(*overrides, f"model.k={1 if ONE_EXPERT & set(RECIPES[name]) else 2}")
    torch.manual_seed(0)
    networks = build_networks(run.model, SHAPE)
    images = torch.randint(0, 256, (30, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    packed = Packed(images, None, "random")
    return begin(run, networks, ImageDataset(packed, packed), compute)


class TracedStep:
    """The device part of an iteration: the second call traces its operations, and from then on they are replayed."""

    def __init__(self, state):
        self.state, self.step, self.calls, self.graph = state, make_step(state), 0, None

    def __call__(self, inputs):
        self.calls += 1
        if self.calls == 1:  # the optimisers create their state
            self.step(inputs)
            return
        if self.graph is None:
            self.graph = self.trace(inputs)
        with torch.no_grad():  # the operations of gradients are in the trace
            self.graph(*(value for needed in inputs for value in needed.values()))

    def trace(self, inputs):
        """Trace without side effects: the capture of a CUDA graph has none either."""
        names = [list(needed) for needed in inputs]

        def step(*flat):
            values = iter(flat)
            self.step([{name: next(values) for name in needed} for needed in names])
            return ()

        kept, random_state = [(tensor, tensor.detach().clone()) for tensor in self.tensors()], torch.get_rng_state()
        graph = make_fx(step)(*(value.clone() for needed in inputs for value in needed.values()))
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        torch.set_rng_state(random_state)
        return graph

    def tensors(self):
        """All that an iteration changes."""
        networks = (*self.state.networks, self.state.ema.average)
        optimizers = self.state.phases.optimizers.values()
        return [
            *(value for network in networks for value in network.state_dict().values()),
            *(value for optimizer in optimizers for kept in optimizer.state.values() for value in kept.values()),
            *([self.state.controller.p, self.state.controller.signs] if self.state.controller else []),
            *(value for part in self.state.means.state().values() for value in part.values()),
        ]


EVERY_DAY = ("hmog", "mggan", "madgan", "gan, adaptive augmentation", "gan, r3gan, all schedules fast")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERY_DAY else [pytest.mark.integ]) for name in RECIPES]
)
def test_traced_and_eager_training_are_bitwise_equal(name):
    eager, replayed = begun(name), begun(name)
    step = TracedStep(replayed)
    for _ in range(STEPS):
        iterate(eager, seed=3)
        random_state = torch.get_rng_state()
        iterate(replayed, seed=3, step=step)
        assert torch.equal(torch.get_rng_state(), random_state)
        assert eager.means.read() == replayed.means.read()
    assert step.graph is not None
    if eager.controller:
        assert torch.equal(eager.controller.p, replayed.controller.p) and eager.controller.p != 0.5
    for one, other in zip(
        (*eager.networks, eager.ema.average), (*replayed.networks, replayed.ema.average), strict=True
    ):
        for (key, value), same in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(value, same), key
