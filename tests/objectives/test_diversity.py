"""The three forms of MGGAN's diversity, against the paper's sums written with probabilities, pair by pair."""

import math
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch

from mixgan_cli.models import heads
from mixgan_cli.objectives import diversity

FORMS = ("general", "one_vs_all", "pairwise")
SCALES = ("eq2", "literal")
COUNTS = (2, 3, 5, 10)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def outputs(form, k):
    return k * (k - 1) // 2 if form == "pairwise" else k


def soft_weights(n, k):
    return torch.randn(n, k).double().softmax(dim=1)


def one_hot(maker_N, k):
    return torch.from_numpy(np.eye(k)[maker_N])


def undecided(form, k):
    """The paper's sum for a classifier that cannot tell."""
    return {"general": np.log(k), "one_vs_all": k * np.log(4), "pairwise": k * (k - 1) / 2 * np.log(4)}[form]


def by_hand(form, scale, logits, weights):
    """The paper's sum; E_k f is sum_n a_nk f(x_n) / (N / K), a mean over expert k's samples where it makes N / K."""
    (n, k), logits, a = weights.shape, logits.detach().numpy(), weights.detach().numpy()

    def expectation(i, f_N):
        return sum(a[m, i] * f_N[m] for m in range(n)) / (n / k)

    total = 0.0
    if form == "general":
        for i in range(k):
            total -= expectation(i, np.log(np.exp(logits[:, i]) / np.exp(logits).sum(axis=1))) / k
    if form == "one_vs_all":
        for i in range(k):
            total -= expectation(i, np.log(sigmoid(logits[:, i])))
            total -= np.mean([expectation(j, np.log(1 - sigmoid(logits[:, i]))) for j in range(k) if j != i])
    if form == "pairwise":
        for pair, (i, j) in enumerate(combinations(range(k), 2)):
            total -= expectation(i, np.log(sigmoid(logits[:, pair])))
            total -= expectation(j, np.log(1 - sigmoid(logits[:, pair])))
    return total if scale == "literal" else total * np.log(k) / undecided(form, k)


def test_every_head_has_its_form():
    assert set(diversity.FORMS) == set(get_args(heads.Form)) == set(FORMS)


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_zero_logits_give_the_loss_of_chance(form, k):
    """Zero logits cost log K, or the range of the paper's sum, whoever made the samples."""
    logits, weights = torch.zeros(6, outputs(form, k)).double(), soft_weights(6, k)
    assert diversity.term(form, "eq2", logits, weights).item() == pytest.approx(np.log(k), rel=1e-12)
    assert diversity.term(form, "literal", logits, weights).item() == pytest.approx(undecided(form, k), rel=1e-12)


def test_ranges_of_the_papers_sums():
    """The specification's figures for K = 10."""
    ranges = [
        diversity.term(form, "literal", torch.zeros(1, outputs(form, 10)), torch.full((1, 10), 0.1)).item()
        for form in FORMS
    ]
    assert ranges == pytest.approx([2.30, 13.9, 62.4], abs=0.05)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("form", FORMS)
def test_values(form, k, scale):
    """Experts' samples in parts, as the uniform gate makes them; in any order and unequal; and mixed."""
    logits = 2 * torch.randn(4 * k, outputs(form, k)).double()
    rng = np.random.default_rng(0)
    for weights in (
        one_hot(np.repeat(np.arange(k), 4), k),
        one_hot(rng.integers(k, size=4 * k), k),
        soft_weights(4 * k, k),
    ):
        value = diversity.term(form, scale, logits, weights).item()
        assert value == pytest.approx(by_hand(form, scale, logits, weights), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_soft_weights_are_the_expectation(form):
    """Weights of quarters cost what four one-hot copies do, drawn in those proportions."""
    quarters = np.array([[1, 3, 0], [2, 1, 1], [0, 0, 4]])
    logits = torch.randn(3, outputs(form, 3)).double()
    drawn = one_hot(np.concatenate([np.repeat(np.arange(3), row) for row in quarters]), 3)
    expected = by_hand(form, "literal", logits.repeat_interleave(4, dim=0), drawn)
    value = diversity.term(form, "literal", logits, torch.from_numpy(quarters / 4)).item()
    assert value == pytest.approx(expected, rel=1e-12)


def test_all_optima_are_equal_for_two_experts():
    """In units of eq. 2: log 2 - JSD(p_0, p_1), and sample by sample, as the two classifiers' odds are the same."""
    counts = np.array([[5, 1, 3, 1], [1, 4, 2, 3]])
    p, q = counts / 10
    jsd = 0.5 * np.sum(p * np.log(2 * p / (p + q))) + 0.5 * np.sum(q * np.log(2 * q / (p + q)))
    atoms = np.concatenate([np.repeat(np.arange(4), row) for row in counts])
    weights = one_hot(np.repeat([0, 1], 10), 2)
    optimal = {
        "general": np.stack([np.log(p), np.log(q)], axis=1),
        "one_vs_all": np.stack([np.log(p / q), np.log(q / p)], axis=1),
        "pairwise": np.log(p / q)[:, None],
    }
    for form, logits in optimal.items():
        value = diversity.term(form, "eq2", torch.from_numpy(logits[atoms]), weights).item()
        assert value == pytest.approx(np.log(2) - jsd, rel=1e-12), form


@pytest.mark.parametrize("scale", SCALES)
def test_one_expert_is_never_mistaken(scale):
    logits = torch.randn(5, 1, dtype=torch.double, requires_grad=True)
    value = diversity.term("general", scale, logits, torch.ones(5, 1).double())
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


def test_pairs_are_in_lexicographic_order():
    """A large logit for pair (i, j) alone costs j that much and spares i, whatever the others are."""
    for pair, (i, j) in enumerate([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]):
        logits = torch.zeros(4, 6).double()
        logits[:, pair] = 50
        costs = np.full(4, 3 * np.log(2))
        costs[i], costs[j] = 2 * np.log(2), 50 + 2 * np.log(2)
        for expert in range(4):
            value = diversity.term("pairwise", "literal", logits, one_hot([expert] * 4, 4)).item()
            assert value == pytest.approx(4 * costs[expert], rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("form", FORMS)
def test_gradients(form, k, scale):
    """Of the logits (the classifier, the samples) and of the weights (the gate)."""
    logits = (2 * torch.randn(3, outputs(form, k)).double()).requires_grad_()
    weights = soft_weights(3, k).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a: diversity.term(form, scale, x, a), (logits, weights))


@pytest.mark.parametrize("form", FORMS)
def test_large_logits_stay_finite(form):
    logits = (1e4 * torch.randn(8, outputs(form, 4))).requires_grad_()
    value = diversity.term(form, "eq2", logits, torch.eye(4).repeat(2, 1))
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()


def test_jsd_of_experts_that_share_nothing_and_everything():
    labels = torch.eye(4).repeat(25, 1)
    assert diversity.jsd(1e3 * labels, labels).item() == pytest.approx(math.log(4))
    assert diversity.jsd(torch.zeros(100, 4), labels).item() == pytest.approx(0, abs=1e-6)


def test_jsd_with_the_best_classifier_is_exact():
    """Two experts on three atoms; counts of 100 samples each make the empirical distributions exact."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    atoms = np.repeat([0, 1, 2, 0, 1, 2], [50, 30, 20, 10, 20, 70])
    weights = torch.eye(2).repeat_interleave(100, dim=0)
    logits = torch.from_numpy(np.log(np.stack((p, q), axis=1))[atoms])
    m = (p + q) / 2
    expected = 0.5 * (p * np.log(p / m)).sum() + 0.5 * (q * np.log(q / m)).sum()
    assert diversity.jsd(logits, weights).item() == pytest.approx(expected)


def test_jsd_with_soft_weights_is_bounded_by_the_usage():
    weights = torch.tensor([[0.9, 0.1], [0.7, 0.3]])
    usage = np.array([0.8, 0.2])
    assert diversity.jsd(weights.log(), weights).item() < -(usage * np.log(usage)).sum()
