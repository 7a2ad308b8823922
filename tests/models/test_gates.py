import copy
import math
from itertools import pairwise

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.gates import NoGate, SoftmaxGate, TreeGate
from mixgan_cli.models.networks import build_networks
from tests.conftest import composed

Z = 100
SOFT_GATES = [SoftmaxGate, TreeGate]


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
def test_tree_weights_equal_the_recursion(k):
    gate, latent_BZ, leaves_KH = tree(k), torch.randn(6, Z).double(), torch.randn(k, 7).double()
    torch.nn.init.normal_(gate.splits.bias)
    expected = torch.stack([recursion(gate, latent_Z, leaves_KH) for latent_Z in latent_BZ])
    torch.testing.assert_close(gate(latent_BZ) @ leaves_KH, expected, atol=3e-15, rtol=1e-13)


def test_children_sum_to_their_parents_density():
    levels = tree(16).levels(torch.randn(20, Z).double())
    for parents, children in pairwise(levels):
        torch.testing.assert_close(children.unflatten(1, (-1, 2)).sum(dim=2), parents)


def test_tree_of_depth_one_equals_softmax_of_two():
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


def test_initialisation_matches_the_specification():
    splits, logits = TreeGate(1024, Z, 0.0).splits, SoftmaxGate(1024, Z, 0.0).logits
    assert splits.weight.std().item() == pytest.approx(1 / math.sqrt(Z), rel=0.02)
    assert logits.weight.std().item() == pytest.approx(math.sqrt(2 / (Z + 1024)), rel=0.02)
    assert not splits.bias.any() and not logits.bias.any()


@pytest.mark.parametrize("k", [3, 6, 12, 33])
def test_tree_needs_a_power_of_two(k):
    with pytest.raises(ConfigError, match=rf"model\.k={k}: .*power of two"):
        TreeGate(k, Z, 0.0)


def test_no_gate_needs_a_single_expert():
    assert NoGate(1)(torch.randn(3, Z)).tolist() == [[1.0]] * 3
    with pytest.raises(ConfigError, match=r"model\.k=2"):
        NoGate(2)


# Dropout of experts: an option of the HMoG author's code


def pair(kind, probability):
    """A gate with dropout, and the same one without."""
    gate = kind(8, Z, probability)
    without = kind(8, Z, 0.0)
    without.load_state_dict(copy.deepcopy(gate.state_dict()))
    return gate, without


@pytest.mark.parametrize("kind", SOFT_GATES)
def test_dropout_rescales_the_remaining_weights(kind):
    gate, without = pair(kind, 0.3)
    latent_BZ = torch.randn(2000, Z)
    weights_BK, all_BK = gate(latent_BZ), without(latent_BZ)
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(2000))
    stays_BK = weights_BK > 0
    assert (~stays_BK).float().mean().item() == pytest.approx(0.3, abs=0.02)
    expected_BK = all_BK * stays_BK
    torch.testing.assert_close(weights_BK, expected_BK / expected_BK.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("kind", SOFT_GATES)
def test_dropout_is_off_in_eval_mode(kind):
    gate, without = pair(kind, 0.5)
    latent_BZ = torch.randn(50, Z)
    assert torch.equal(gate.eval()(latent_BZ), without(latent_BZ))


@pytest.mark.parametrize("kind", SOFT_GATES)
def test_zero_dropout_uses_no_random_numbers(kind):
    gate = kind(8, Z, 0.0)
    latent_BZ, state = torch.randn(50, Z), torch.get_rng_state()
    trained = gate(latent_BZ)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(gate.eval()(latent_BZ), trained)


def test_dropout_never_removes_all_experts():
    gate, without = pair(SoftmaxGate, 0.999)
    latent_BZ = torch.randn(50, Z)
    weights_BK = gate(latent_BZ)
    whole_B = (weights_BK > 0).all(dim=1)
    assert whole_B.sum() > 40
    torch.testing.assert_close(weights_BK[whole_B], without(latent_BZ)[whole_B])


@pytest.mark.parametrize("kind", SOFT_GATES)
def test_dropout_of_a_saturated_gate_gives_valid_weights(kind):
    """The other weights of a saturated gate are exactly 0 in float32, so they cannot be rescaled to sum to 1."""
    gate, _ = pair(kind, 0.5)
    with torch.no_grad():
        (gate.logits if kind is SoftmaxGate else gate.splits).bias[0] = 200
        weights_BK = gate(torch.randn(100, Z))
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(100))


@pytest.mark.parametrize("kind", SOFT_GATES)
def test_weight_dropout_has_one_mask_per_batch(kind):
    """Dropout of the gate's weight matrix, as in the HMoG author's code: equal latents get equal weights."""
    gate = kind(8, Z, 0.0, 0.5)
    latent_BZ = torch.randn(1, Z).expand(20, Z)
    first_BK, second_BK = gate(latent_BZ), gate(latent_BZ)
    torch.testing.assert_close(first_BK, first_BK[:1].expand(20, 8))
    torch.testing.assert_close(first_BK.sum(dim=1), torch.ones(20))
    assert not torch.allclose(first_BK, second_BK)
    assert torch.equal(gate.eval()(latent_BZ), gate(latent_BZ))


@pytest.mark.parametrize("kind", SOFT_GATES)
def test_weight_dropout_keeps_and_rescales_whole_weights(kind):
    gate, without = kind(8, Z, 0.0, 0.5), kind(8, Z, 0.0)
    without.load_state_dict(copy.deepcopy(gate.state_dict()))
    weight, latent_BZ = (without.logits if kind is SoftmaxGate else without.splits).weight, torch.randn(20, Z)
    torch.manual_seed(5)
    dropped_BK = gate(latent_BZ)
    torch.manual_seed(5)
    with torch.no_grad():
        weight.mul_(2.0 * (torch.rand_like(weight) >= 0.5))
    torch.testing.assert_close(dropped_BK, without(latent_BZ))


@pytest.mark.parametrize("probability", [1.0, 1.5, -0.1])
@pytest.mark.parametrize("gate", ["softmax", "tree"])
def test_dropout_must_be_a_probability(gate, probability):
    run = composed("model=hmog", f"model/gate={gate}", f"model.gate.dropout={probability}")
    with pytest.raises(ConfigError, match=r"model\.gate\.dropout=.*probability"):
        build_networks(run.model, (1, 8, 8))
