"""K equal networks in one pass, compared with the networks one after the other."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

from mixgan_cli.models.layers import passes_counted_together
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.one_pass import run_in_one_pass, runs_in_one_pass
from mixgan_cli.training.bf16_weights import Bf16Weights
from tests.conftest import composed

K, B = 3, 8
IMAGES = ("model.backbone.channels=4", "model.latent.size=6")
MODELS = {
    "images": ((*IMAGES,), (1, 16, 16)),
    "norm after": ((*IMAGES, "model.backbone.generator_norm=batch_after"), (1, 16, 16)),
    "points": (("data=ring", "model/backbone=mlp"), (2,)),
}


def experts_of(name):
    overrides, shape = MODELS[name]
    generator = build_networks(composed("model=megan", f"model.k={K}", *overrides).model, shape).generator.double()
    return generator.experts, generator.latents(B, "cpu").double()


class Convolutions(TorchDispatchMode):
    """Count the convolutions inside the block."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def loop(networks, inputs_KB):
    return torch.stack([network(inputs) for network, inputs in zip(networks, inputs_KB, strict=True)])


def results(experts, latents, run):
    """Samples, features, gradients and buffers after two passes on latents [B, Z], or [K, B, Z]."""
    latents_KB = experts.expand(latents) if latents.dim() == 2 else latents
    with passes_counted_together():
        for _ in range(2):
            features = run(experts.first, latents_KB)
            samples = run(experts.rest, features)
    weights = torch.linspace(-1, 2, samples.numel(), dtype=torch.float64)
    ((samples.flatten() * weights).sum() + features.square().sum()).backward()
    return {
        "samples": samples.detach(),
        "features": features.detach(),
        "latents": latents.grad,
        **{name: parameter.grad for name, parameter in experts.named_parameters()},
        **dict(experts.named_buffers()),
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_one_pass_equals_the_loop(model, training, shared):
    torch.manual_seed(0)
    experts, latent_BZ = experts_of(model)
    latents = latent_BZ if shared else torch.randn(K, *latent_BZ.shape).double()
    found = []
    for run in (loop, run_in_one_pass):
        copy = deepcopy(experts).train(training)
        assert runs_in_one_pass(copy.first[0]) and runs_in_one_pass(copy.rest[0])
        found.append(results(copy, latents.clone().requires_grad_(), run))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)


def test_one_pass_trains_weights_in_bfloat16():
    torch.manual_seed(0)
    networks = build_networks(composed("model=megan", f"model.k={K}", *IMAGES).model, (1, 16, 16))
    experts, weights = networks.generator.experts, Bf16Weights(networks)
    parameters, inputs_KB = list(experts.parameters()), experts.expand(networks.generator.latents(B))
    found = []
    for run in (loop, run_in_one_pass):
        experts.zero_grad()
        with weights.in_place(), torch.autocast("cpu", torch.bfloat16):
            run(experts.rest, run(experts.first, inputs_KB)).float().square().sum().backward()
        assert all(copy.grad.dtype == torch.bfloat16 for copy in weights.copies_of(parameters))
        weights.move_gradients(parameters)
        found.append(torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.dim() > 1]))
    assert (found[1] - found[0]).norm() < 0.02 * found[0].norm()  # bfloat16 has eight bits


def test_one_pass_in_float32_equals_the_loop_to_rounding():
    torch.manual_seed(0)
    experts, latent_BZ = experts_of("images")
    experts, latents_KB = experts.float(), experts.expand(latent_BZ.float())
    one_pass, one_by_one = run_in_one_pass(experts.first, latents_KB), loop(experts.first, latents_KB)
    torch.testing.assert_close(one_pass, one_by_one, rtol=1e-5, atol=1e-5)


class OnGPU(torch.Tensor):
    """A tensor on the CPU that says that it is on a GPU."""

    is_cuda = True


@pytest.mark.parametrize(("kind", "convolutions"), [(OnGPU, 3), (torch.Tensor, 3 * K)])
def test_only_a_gpu_runs_experts_in_one_pass(kind, convolutions):
    experts, latent_BZ = experts_of("images")
    with Convolutions() as counted, torch.no_grad():
        samples, features = experts.forward_with_features(experts.expand(latent_BZ).as_subclass(kind))
    assert (samples.shape, features.shape) == ((K, B, 1, 16, 16), (K, B, experts.feature_size))
    assert counted.number == convolutions


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.BatchNorm3d(2), with_spectral_norm(nn.Linear(2, 2))], ids=type)
def test_unknown_layers_do_not_run_in_one_pass(layer):
    assert not runs_in_one_pass(nn.Sequential(nn.Linear(2, 2), layer))


def test_observed_layers_do_not_run_in_one_pass():
    layer = nn.Linear(2, 2)
    assert runs_in_one_pass(layer)
    layer.register_forward_hook(lambda *seen: None)
    assert not runs_in_one_pass(layer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", MODELS)
def test_one_pass_equals_the_loop_on_a_gpu(model):
    experts, latent_BZ = experts_of(model)
    found = [
        results(deepcopy(experts).cuda(), latent_BZ.cuda().requires_grad_(), run) for run in (loop, run_in_one_pass)
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_dense_layers_without_bias_run_in_one_pass():
    networks = [nn.Sequential(nn.Linear(3, 4, bias=False), nn.LeakyReLU(0.2)).double() for _ in range(K)]
    inputs_KB = torch.randn(K, B, 3, dtype=torch.float64)
    assert runs_in_one_pass(networks[0])
    torch.testing.assert_close(run_in_one_pass(networks, inputs_KB), loop(networks, inputs_KB), rtol=1e-12, atol=1e-12)
