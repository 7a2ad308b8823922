import math
from itertools import pairwise

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.gates import NoGate, SoftmaxGate, TreeGate

Z = 100


def tree(k: int) -> TreeGate:
    return TreeGate(k, Z, 0.0).double()


def recursion(gate: TreeGate, latent_Z: torch.Tensor, leaves_KH: torch.Tensor, node: int = 0) -> torch.Tensor:
    """x_m = σ_m x_left + (1 - σ_m) x_right, by the definition, one latent at a time."""
    if node >= gate.k - 1:
        return leaves_KH[node - (gate.k - 1)]
    left = 1 / (1 + math.exp(-(gate.splits.weight[node] @ latent_Z + gate.splits.bias[node]).item()))
    return left * recursion(gate, latent_Z, leaves_KH, 2 * node + 1) + (1 - left) * recursion(
        gate, latent_Z, leaves_KH, 2 * node + 2
    )


@pytest.mark.parametrize("k", [1, 2, 4, 8, 16, 32])
def test_every_level_of_the_tree_sums_to_one(k):
    levels = tree(k).levels(torch.randn(50, Z).double())
    assert [level.shape[1] for level in levels] == [2**d for d in range(k.bit_length())]
    for level in levels:
        assert (level >= 0).all()
        torch.testing.assert_close(level.sum(dim=1), torch.ones(50).double(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("k", [2, 4, 8, 32])
def test_the_product_form_is_the_recursion(k):
    gate, latent_BZ, leaves_KH = tree(k), torch.randn(6, Z).double(), torch.randn(k, 7).double()
    torch.nn.init.normal_(gate.splits.bias)
    expected = torch.stack([recursion(gate, latent_Z, leaves_KH) for latent_Z in latent_BZ])
    torch.testing.assert_close(gate(latent_BZ) @ leaves_KH, expected, atol=3e-15, rtol=1e-13)


def test_children_share_their_parents_density():
    levels = tree(16).levels(torch.randn(20, Z).double())
    for parents, children in pairwise(levels):
        torch.testing.assert_close(children.unflatten(1, (-1, 2)).sum(dim=2), parents)


def test_depth_one_is_a_flat_mixture_of_two():
    hierarchical, flat = tree(2), SoftmaxGate(2, Z, 0.0).double()
    with torch.no_grad():
        hierarchical.splits.weight.copy_(flat.logits.weight[0:1] - flat.logits.weight[1:2])
        hierarchical.splits.bias.copy_(flat.logits.bias[0:1] - flat.logits.bias[1:2])
    latent_BZ = torch.randn(100, Z).double()
    torch.testing.assert_close(hierarchical(latent_BZ), flat(latent_BZ), atol=1e-15, rtol=0)


def test_saturated_splits_route_to_a_known_leaf():
    gate = tree(8)
    with torch.no_grad():
        gate.splits.weight.zero_()
        gate.splits.bias.fill_(-1e6)  # right everywhere
        gate.splits.bias[0] = 1e6  # but left at the root: leaf 3, the rightmost of the left half
        weights = gate(torch.randn(4, Z).double())
    torch.testing.assert_close(weights, torch.eye(8).double()[3].expand(4, -1))


@pytest.mark.parametrize("k", [1, 4, 32])
def test_softmax_rows_sum_to_one(k):
    weights = SoftmaxGate(k, Z, 0.0)(torch.randn(50, Z))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(50))


def test_initialisations_of_the_spec():
    splits, logits = TreeGate(1024, Z, 0.0).splits, SoftmaxGate(1024, Z, 0.0).logits
    assert splits.weight.std().item() == pytest.approx(1 / math.sqrt(Z), rel=0.02)
    assert logits.weight.std().item() == pytest.approx(math.sqrt(2 / (Z + 1024)), rel=0.02)
    assert not splits.bias.any() and not logits.bias.any()


@pytest.mark.parametrize("k", [3, 6, 12, 33])
def test_a_tree_needs_a_power_of_two(k):
    with pytest.raises(ConfigError, match=rf"model\.k={k}: .*power of two"):
        TreeGate(k, Z, 0.0)


def test_no_gate_takes_one_expert():
    assert NoGate(1)(torch.randn(3, Z)).tolist() == [[1.0]] * 3
    with pytest.raises(ConfigError, match=r"model\.k=2"):
        NoGate(2)
