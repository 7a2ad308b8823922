"""The compiled gradient penalty has the value and the gradient of the plain one, and is used only then."""

import logging
from functools import partial

import pytest
import torch

from mixgan_cli.models.networks import build_networks
from mixgan_cli.objectives.penalties import R1, GradientPenalty, NoPenalty
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training.compiled_penalty import TOLERANCE, WORTH, CompiledPenalty, maybe_compile
from tests.conftest import composed

PENALTIES = {
    "per sample": GradientPenalty(10.0, "sample"),
    "per pixel": GradientPenalty(10.0, "pixel"),
    "R1": R1(5.0, share=0.5),
}
CPU = Compute(torch.device("cpu"), compile="auto")


def discriminator(*overrides):
    torch.manual_seed(0)
    run = composed("model=hmog", "model.k=2", "model.backbone.channels=4", "model.latent.size=4", *overrides)
    return build_networks(run.model, (1, 16, 16)).discriminator


def samples():
    return torch.rand(6, 1, 16, 16) * 2 - 1, torch.rand(6, 1, 16, 16) * 2 - 1


def value_and_gradients(penalty, network, real, fake):
    torch.manual_seed(1)
    network.zero_grad()
    value = penalty(network.score, real, fake)
    value.backward()
    return [value.detach(), *(parameter.grad for parameter in network.parameters() if parameter.grad is not None)]


def check_equal(network, plain, compiled, *batches):
    for real, fake in batches:
        expected = [value.clone() for value in value_and_gradients(plain, network, real, fake)]
        found = value_and_gradients(compiled, network, real, fake)
        assert len(found) == len(expected) > 5
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)  # sums in another order


@pytest.fixture
def no_code_generation(monkeypatch):
    """Trace and differentiate as for compilation, and run the operations one by one."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


class Doubled(R1):
    """A penalty of a user, with a call of its own."""

    def __call__(self, score, real, fake):
        return 2 * super().__call__(score, real, fake)


def test_penalty_with_a_call_of_its_own_is_not_compiled():
    penalty = Doubled(5.0, share=0.5)
    assert maybe_compile(penalty, discriminator(), CPU, WORTH) is penalty


@pytest.mark.parametrize("name", PENALTIES)
def test_value_and_gradient_are_those_of_the_plain_penalty(name, no_code_generation, caplog):
    caplog.set_level(logging.INFO)
    network = discriminator()
    compiled = maybe_compile(PENALTIES[name], network, CPU, WORTH)
    check_equal(network, PENALTIES[name], compiled, samples(), samples())
    assert "the gradient penalty is compiled" in caplog.text


@pytest.mark.slow
@pytest.mark.integ
def test_generated_code_gives_the_same(caplog):
    caplog.set_level(logging.INFO)
    network, penalty = discriminator(), PENALTIES["per sample"]
    compiled = CompiledPenalty(penalty, network, TOLERANCE["float32"])
    check_equal(network, penalty, compiled, samples())
    if "is not compiled" in caplog.text:
        pytest.skip(f"no compiler here: {caplog.messages[-1]}")
    assert "the gradient penalty is compiled" in caplog.text


def test_another_result_is_not_used(no_code_generation, monkeypatch, caplog):
    network, penalty = discriminator(), PENALTIES["per sample"]
    compiled = CompiledPenalty(penalty, network, TOLERANCE["float32"])
    monkeypatch.setattr(compiled, "_score", lambda given: 1.01 * network(given).scores_N)
    check_equal(network, penalty, compiled, samples())
    assert "differs by 0.0" in caplog.text


def test_without_a_compiler_the_penalty_runs_as_it_is(monkeypatch, caplog):
    def broken(graph, inputs):
        raise RuntimeError("no C compiler\nand a long story")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    network, penalty = discriminator(), PENALTIES["per sample"]
    check_equal(network, penalty, CompiledPenalty(penalty, network, TOLERANCE["float32"]), samples())
    assert caplog.text.count("the gradient penalty is not compiled") == 1
    assert "a long story" not in caplog.text


@pytest.mark.parametrize(
    ("penalty", "network", "compute", "steps"),
    [
        (PENALTIES["R1"], "layer", CPU, WORTH - 1),
        (PENALTIES["R1"], "layer", Compute(torch.device("cpu")), WORTH),
        (PENALTIES["R1"], "batch", CPU, WORTH),
        (NoPenalty(), "layer", CPU, WORTH),
    ],
    ids=["short run", "off", "batch norm", "no penalty"],
)
def test_other_penalties_stay(penalty, network, compute, steps):
    network = discriminator(f"model.backbone.discriminator_norm={network}")
    assert maybe_compile(penalty, network, compute, steps) is penalty
