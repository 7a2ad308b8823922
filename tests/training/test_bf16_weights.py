"""Copies of weights in bfloat16 give what autocast gives, to the rounding of gradients."""

import pytest
import torch
from torch import nn

from mixgan_cli.config.compose import groups
from mixgan_cli.models.gates import GateWeights, SoftmaxGate
from mixgan_cli.models.layers import LayerNorm
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training import loop
from mixgan_cli.training.bf16_weights import Bf16Weights
from mixgan_cli.training.step import optimizer_step
from tests.training.test_iteration import begun

IN_BF16 = Compute(torch.device("cpu"), "bf16")


def gradients(network, samples, weights=None, precision="bf16"):
    """Return the gradient of a loss of two terms, [P]."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)

    def terms():
        for part in samples.chunk(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                if weights:
                    with weights.in_place():
                        scores = network(part).scores_N
                else:
                    scores = network(part).scores_N
            yield scores.float().square().mean()

    optimizer_step(terms(), {"one": optimizer}, weights)
    return torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in network.parameters()])


@pytest.mark.parametrize("model", ["mggan", "hmog"])
def test_gradients_are_as_close_to_float32_as_those_of_autocast(model):
    """In float32 the layer norm's scale is not rounded, and the gradients of two terms are added with more digits."""
    state = begun(model)
    network = state.networks.discriminator
    samples = torch.rand(64, 1, 8, 8) * 2 - 1
    exact = gradients(network, samples, precision="float32")
    alone = gradients(network, samples)
    found = gradients(network, samples, Bf16Weights(state.networks))
    assert (found - exact).norm() < 1.3 * (alone - exact).norm()
    assert 0 < (alone - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("model", groups()["model"])
def test_samples_and_scores_are_those_of_autocast(model):
    state = begun(model)
    (generator, discriminator), weights = state.networks, Bf16Weights(state.networks)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(1)
        latents = generator.latents(8)
        alone = [generator(latents), *discriminator(torch.ones(8, 1, 8, 8))]
        torch.manual_seed(1)
        generator.latents(8)
        with weights.in_place():
            found = [generator(latents), *discriminator(torch.ones(8, 1, 8, 8))]
    assert torch.equal(found[0].weights_BK, alone[0].weights_BK)
    torch.testing.assert_close(found[0].samples, alone[0].samples, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found[1], alone[1], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("model", groups()["model"])
def test_training_follows_that_in_float32(model):
    """Weights after ten iterations: the largest steps of both are those of Adam, so they differ by some of them."""
    states = [begun(model), begun(model, IN_BF16)]
    before = [parameter.detach().clone() for network in states[0].networks for parameter in network.parameters()]
    for state in states:
        for _ in range(10):
            loop.iterate(state, 0)
    exact, found = ([p.detach() for network in state.networks for p in network.parameters()] for state in states)
    moved = torch.cat([(p - old).flatten() for p, old in zip(exact, before, strict=True)])
    apart = torch.cat([(p - q).flatten() for p, q in zip(exact, found, strict=True)])
    assert all(p.dtype == torch.float32 for p in found)
    assert 0 < apart.norm() < 0.5 * moved.norm()


def test_copies_follow_the_weights_after_a_step_and_after_loading():
    state = begun("hmog", IN_BF16)
    weights, discriminator = state.phases.discriminator.context.bf16_weights, state.networks.discriminator
    with torch.no_grad():
        for parameter in [*discriminator.parameters(), *state.networks.generator.parameters()]:
            parameter.add_(0.5)  # as after a checkpoint
    loop.iterate(state, 0)
    for parameter, copy in zip(discriminator.parameters(), weights.copies_of(discriminator.parameters()), strict=True):
        assert torch.equal(copy, parameter.to(torch.bfloat16)) and copy.grad is None
    generator = list(state.networks.generator.trunk.parameters())
    for parameter, copy in zip(generator, weights.copies_of(generator), strict=True):  # one step behind
        assert (copy - parameter).abs().max() < 0.01


def test_gate_norms_and_parametrised_weights_have_no_copies():
    for name in ("megan", "gan, spectral norm"):
        state = begun(name)
        weights, (generator, discriminator) = Bf16Weights(state.networks), state.networks
        assert weights.copies_of(generator.gate.parameters()) == []
        norms = [m for network in state.networks for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(weights.copies_of(norm.parameters()) == [] for norm in norms)
        if "spectral" in name:
            original = [p for name, p in discriminator.named_parameters() if name.endswith("original")]
            assert original and weights.copies_of(original) == []


class ReadsExperts(SoftmaxGate):
    """A gate whose weights depend on the experts' outputs, which it computes in float32."""

    def weights(self, latent_BZ, inputs, experts):
        outputs_KBH = experts(inputs.expand(experts.k, *inputs.shape))
        assert outputs_KBH.dtype == torch.float32
        weights_BK = outputs_KBH.flatten(2).mean(dim=2).T.softmax(dim=1)
        return GateWeights(weights_BK, weights_BK)


def test_experts_that_a_gate_reads_in_float32_have_no_copies():
    state = begun("hmog")
    generator = state.networks.generator
    generator.gate = ReadsExperts(generator.k, 4, 0.0)
    weights = Bf16Weights(state.networks)
    assert weights.copies_of(generator.experts.parameters()) == [] != weights.copies_of(generator.trunk.parameters())
    with torch.autocast("cpu", torch.bfloat16), weights.in_place():
        assert generator(generator.latents(8)).samples.shape == (8, 1, 8, 8)


def test_gradients_that_a_failed_step_left_on_copies_are_not_added():
    state = begun("hmog")
    network, samples = state.networks.discriminator, torch.rand(16, 1, 8, 8)
    expected = gradients(network, samples, Bf16Weights(state.networks))
    weights = Bf16Weights(state.networks)

    def broken():
        with torch.autocast("cpu", torch.bfloat16), weights.in_place():
            yield network(samples).scores_N.float().square().mean()
        raise RuntimeError("a capture that failed")

    with pytest.raises(RuntimeError, match="failed"):
        optimizer_step(broken(), {"one": torch.optim.SGD(network.parameters(), lr=0.0)}, weights)
    assert torch.equal(gradients(network, samples, weights), expected)


def test_layer_norm_keeps_bfloat16():
    norm, images = LayerNorm([3, 4, 4]), torch.randn(5, 3, 4, 4)
    nn.init.normal_(norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(images.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), norm(images), rtol=0.02, atol=0.05)
    assert torch.equal(norm(images), nn.functional.layer_norm(images, (3, 4, 4), norm.weight, norm.bias))
