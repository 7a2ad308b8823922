"""Leaf dropout of the soft gates: an option of the HMoG author's code."""

import copy

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.models.gates import SoftmaxGate, TreeGate
from mixgan_cli.models.networks import build_networks
from tests.conftest import composed

GATES = [SoftmaxGate, TreeGate]
K, Z = 8, 5


def pair(kind, probability):
    """A gate with dropout, and the same one without."""
    gate = kind(K, Z, probability)
    without = kind(K, Z, 0.0)
    without.load_state_dict(copy.deepcopy(gate.state_dict()))
    return gate, without


@pytest.mark.parametrize("kind", GATES)
def test_those_that_stay_share_the_sample_as_before(kind):
    gate, without = pair(kind, 0.3)
    latent_BZ = torch.randn(2000, Z)
    weights_BK, all_BK = gate(latent_BZ), without(latent_BZ)
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(2000))
    stays_BK = weights_BK > 0
    assert (~stays_BK).float().mean().item() == pytest.approx(0.3, abs=0.02)
    expected_BK = all_BK * stays_BK
    torch.testing.assert_close(weights_BK, expected_BK / expected_BK.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("kind", GATES)
def test_nobody_is_left_out_of_sampling(kind):
    gate, without = pair(kind, 0.5)
    latent_BZ = torch.randn(50, Z)
    assert torch.equal(gate.eval()(latent_BZ), without(latent_BZ))


@pytest.mark.parametrize("kind", GATES)
def test_without_it_nothing_is_drawn(kind):
    gate = kind(K, Z, 0.0)
    latent_BZ, state = torch.randn(50, Z), torch.get_rng_state()
    trained = gate(latent_BZ)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(gate.eval()(latent_BZ), trained)


def test_where_all_would_be_left_out_none_is():
    gate, without = pair(SoftmaxGate, 0.999)
    latent_BZ = torch.randn(50, Z)
    weights_BK = gate(latent_BZ)
    whole_B = (weights_BK > 0).all(dim=1)
    assert whole_B.sum() > 40
    torch.testing.assert_close(weights_BK[whole_B], without(latent_BZ)[whole_B])


@pytest.mark.parametrize("kind", GATES)
def test_a_sure_gate_that_loses_its_choice_still_gives_weights(kind):
    """A saturated gate's other weights are exactly 0 in float32: they alone make no sum of 1."""
    gate, _ = pair(kind, 0.5)
    with torch.no_grad():
        (gate.logits if kind is SoftmaxGate else gate.splits).bias[0] = 200
        weights_BK = gate(torch.randn(100, Z))
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(100))


@pytest.mark.parametrize("probability", [1.0, 1.5, -0.1])
@pytest.mark.parametrize("gate", ["softmax", "tree"])
def test_no_probability_is_refused(gate, probability):
    run = composed("model=hmog", f"model/gate={gate}", f"model.gate.dropout={probability}")
    with pytest.raises(ConfigError, match=r"model\.gate\.dropout=.*probability"):
        build_networks(run.model, (1, 8, 8))
