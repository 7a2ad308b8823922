import math

import pytest
import torch

from mixgan_cli.models.backbones.r3gan import GenerativeBasis
from mixgan_cli.models.experts import BasisExperts, ConstantExperts, DenseExperts, LinearExperts
from mixgan_cli.models.layers import he, normal_all

B, K, Z, H = 5, 8, 12, 20


def one_by_one(experts, latent_BZ, weights_BK):
    """Σ_i a_i G_i(z), an expert and a sample at a time."""
    mixed = torch.zeros(B, H, dtype=latent_BZ.dtype)
    for b in range(B):
        for i in range(K):
            if isinstance(experts, ConstantExperts):
                output = experts.constant_KH[i]
            else:
                output = latent_BZ[b] @ experts.weight_KZH[i] + experts.bias_KH[i]
            if isinstance(experts, DenseExperts):
                output = output.clamp(min=0)
            mixed[b] += weights_BK[b, i] * output
    return mixed


@pytest.mark.parametrize(
    "experts", [LinearExperts(K, Z, H), ConstantExperts(K, H), DenseExperts(K, Z, H, he, "he", "none", True)], ids=type
)
def test_mix_equals_the_weighted_sum_of_experts(experts):
    experts = experts.double()
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter)
    latent_BZ, weights_BK = torch.randn(B, Z).double(), torch.rand(B, K).double().softmax(dim=1)
    expected = one_by_one(experts, latent_BZ, weights_BK)
    torch.testing.assert_close(experts.mix(latent_BZ, weights_BK), expected)
    torch.testing.assert_close(torch.einsum("bk,kbh->bh", weights_BK, experts(experts.expand(latent_BZ))), expected)
    for i in range(K):
        torch.testing.assert_close(experts.forward_one(i, latent_BZ), experts(experts.expand(latent_BZ))[i])


def test_fused_mixture_has_correct_gradients():
    experts = LinearExperts(3, 4, 5).double()
    latent_BZ = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
    weights_BK = torch.rand(2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(experts.mix, (latent_BZ, weights_BK))


def test_constant_experts_mix_inside_their_convex_hull():
    experts = ConstantExperts(K, H)
    mixed = experts.mix(torch.randn(1000, Z), torch.rand(1000, K).softmax(dim=1))
    assert (mixed >= experts.constant_KH.min(dim=0).values - 1e-5).all()
    assert (mixed <= experts.constant_KH.max(dim=0).values + 1e-5).all()


def test_initialisation_matches_the_specification():
    linear, constant, dense = (
        LinearExperts(8, 100, 512),
        ConstantExperts(8, 512),
        DenseExperts(1, 100, 4096, normal_all(0.02), "backbone", "none", True),
    )
    assert linear.weight_KZH.std().item() == pytest.approx(1 / math.sqrt(100), rel=0.02)
    assert not linear.bias_KH.any()
    assert constant.constant_KH.std().item() == pytest.approx(1, rel=0.05)
    assert dense.weight_KZH.std().item() == pytest.approx(0.02, rel=0.02)
    assert dense.bias_KH.std().item() == pytest.approx(0.02, rel=0.05)


def test_mixture_needs_no_weight_matrix_per_sample():
    """The largest intermediate is [B, K Z], not [B, Z, H]: no tensor the autograd graph keeps is larger."""
    experts, batch = LinearExperts(32, 100, 4096), 64
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        experts.mix(torch.randn(batch, 100), torch.rand(batch, 32).softmax(dim=1))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in experts.parameters()}
    intermediate = [t.numel() for t in kept if t.untyped_storage().data_ptr() not in parameters]
    assert max(intermediate) <= batch * 32 * 100 < batch * 100 * 4096


class Shaped:
    """Of a backbone, what basis experts need."""

    hidden_shape = (6, 4, 4)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("backbone", [Shaped(), None], ids=["maps", "units"])
def test_basis_experts_are_maps_scaled_by_a_linear_function(k, backbone):
    experts, z = BasisExperts(k, 5, 96, backbone).double(), torch.randn(7, 5).double()
    channels = 6 if backbone else 96
    basis, weight = experts.basis_KCP.detach(), experts.weight_KZC.detach()
    assert basis.shape == (k, channels, 96 // channels)
    expected = torch.stack(
        [torch.stack([(basis[i] * (weight[i].T @ each)[:, None]).flatten() for each in z]) for i in range(k)]
    )
    torch.testing.assert_close(experts(experts.expand(z)).detach(), expected)
    a = torch.rand(7, k).double()
    mixture = torch.einsum("bk,kbh->bh", a, expected)
    torch.testing.assert_close(experts.mix(z, a).detach(), mixture)
    torch.testing.assert_close(experts.forward_one(k - 1, z).detach(), expected[-1])


def test_one_basis_expert_is_the_first_layer_of_r3gan():
    experts, layer = BasisExperts(1, 5, 96, Shaped()), GenerativeBasis(5, (6, 4, 4))
    with torch.no_grad():
        experts.basis_KCP[0] = layer.basis.flatten(1)
        experts.weight_KZC[0] = layer.linear.weight.T
    z = torch.randn(3, 5)
    torch.testing.assert_close(experts.mix(z, torch.ones(3, 1)).view(3, 6, 4, 4), layer(z))


def test_basis_experts_have_unit_variance_at_first():
    outputs = BasisExperts(8, 64, 16 * 192, type("", (), {"hidden_shape": (192, 4, 4)})())(torch.randn(8, 64, 64))
    assert outputs.var().item() == pytest.approx(1, rel=0.05)
