"""The papers' theorems, on random discrete distributions, with the optimal discriminator and classifier put into the
losses that train. Batches hold each atom as often as its distribution says, so that their means are expectations.
"""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn

from docs import theory
from mixgan_cli.models.heads import MulticlassHead
from mixgan_cli.objectives import diversity
from mixgan_cli.objectives.adversarial import Minimax, NonSaturating

ATOMS = 7
NOTHING = 1e-30  # stands for a probability of 0 in logarithms
EACH = 60  # samples of a distribution
FORMS = ("general", "one_vs_all", "pairwise")
COUNTS = (2, 3, 5)


def entropy(p):
    return -sum(x * np.log(x) for x in p if x > 0)


def jsd(*distributions):
    """With equal weights; of K distributions, at most log K."""
    return entropy(np.mean(distributions, axis=0)) - np.mean([entropy(p) for p in distributions])


def random_counts(k):
    """How often each of k distributions has each atom, [k, ATOMS], at least once."""
    rng = np.random.default_rng(k)
    return 1 + np.array([rng.multinomial(EACH - ATOMS, rng.dirichlet(np.ones(ATOMS))) for _ in range(k)])


def atoms(counts_A):
    return torch.from_numpy(np.repeat(np.arange(len(counts_A)), counts_A))


def makers(k, each=EACH):
    """One-hot weights of a batch in which each expert makes its part, expert after expert."""
    return torch.from_numpy(np.repeat(np.eye(k), each, axis=0))


def rest(p_KA, k):
    """What the others make together."""
    return np.delete(p_KA, k, axis=0).mean(axis=0)


def optimal_classifier(form, p_KA):
    """Logits of C* at each atom, [ATOMS, L]."""
    k, p_KA = len(p_KA), p_KA + NOTHING
    columns = {
        "general": lambda: [np.log(p / p_KA.sum(axis=0)) for p in p_KA],
        "one_vs_all": lambda: [np.log(p_KA[i] / rest(p_KA, i)) for i in range(k)],
        "pairwise": lambda: [np.log(p_KA[i] / p_KA[j]) for i, j in combinations(range(k), 2)],
    }
    return torch.from_numpy(np.stack(columns[form](), axis=1))


OPTIMA = {  # the paper's sums at C*
    "general": lambda p: np.log(len(p)) - jsd(*p),
    "one_vs_all": lambda p: len(p) * np.log(4) - 2 * sum(jsd(p[i], rest(p, i)) for i in range(len(p))),
    "pairwise": lambda p: sum(np.log(4) - 2 * jsd(a, b) for a, b in combinations(p, 2)),
}


@pytest.mark.parametrize("k", COUNTS)
def test_generators_value_is_equation_11(k):
    beta, (data_A, *counts) = 0.7, random_counts(k + 1)
    p_data, p_KA = data_A / EACH, np.array(counts) / EACH
    p_model, generated = p_KA.mean(axis=0), atoms(np.array(counts).T.sum(axis=1))
    score_A, game = torch.from_numpy(np.log(p_data / p_model)), Minimax()
    adversarial = -game.real(score_A[atoms(data_A)]) + game.generator(score_A[generated])
    made = torch.cat([atoms(c) for c in counts])
    term = diversity.term("general", "eq2", optimal_classifier("general", p_KA)[made], makers(k))
    assert adversarial.item() == pytest.approx(-np.log(4) + 2 * jsd(p_data, p_model), abs=1e-12)
    expected = -np.log(4) + 2 * jsd(p_data, p_model) + beta * np.log(k) - beta * jsd(*p_KA)
    assert (adversarial + beta * term).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_term_at_the_optimal_classifier(form, k):
    counts = random_counts(k)
    made = torch.cat([atoms(c) for c in counts])
    term = diversity.term(form, "literal", optimal_classifier(form, counts / EACH)[made], makers(k))
    assert term.item() == pytest.approx(OPTIMA[form](counts / EACH), abs=1e-12)


@pytest.mark.parametrize("scale", ["eq2", "literal"])
@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_optimal_classifier_is_optimal(form, k, scale):
    """Its gradient is zero, and whatever is done to its logits raises the term."""
    counts = random_counts(k)
    made = torch.cat([atoms(c) for c in counts])
    logits_AL = optimal_classifier(form, counts / EACH).requires_grad_()
    best = diversity.term(form, scale, logits_AL[made], makers(k))
    best.backward()
    assert logits_AL.grad.abs().max().item() < 1e-13
    for size in (0.01, 0.1, 1.0, 10.0):
        for _ in range(10):
            worse = logits_AL + size * torch.randn_like(logits_AL)
            assert diversity.term(form, scale, worse[made], makers(k)) > best


def test_optimal_discriminator_is_optimal():
    data_A, model_A = random_counts(2)
    score_A, game = torch.from_numpy(np.log(data_A / model_A)).requires_grad_(), Minimax()

    def loss(score_A):
        return game.real(score_A[atoms(data_A)]) + game.fake(score_A[atoms(model_A)])

    best = loss(score_A)
    best.backward()
    assert score_A.grad.abs().max().item() < 1e-15
    assert all(loss(score_A + torch.randn_like(score_A)) > best for _ in range(20))


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_disjoint_experts_pay_nothing(form, k):
    """JSD reaches its bound, log K, where supports are disjoint. Pairs that did not make a sample may say anything."""
    owner_A = np.arange(ATOMS) % k
    assert jsd(*[(owner_A == i) / (owner_A == i).sum() for i in range(k)]) == pytest.approx(np.log(k))
    if form == "pairwise":
        sign_AL = np.array([[(o == i) - 1.0 * (o == j) for i, j in combinations(range(k), 2)] for o in owner_A])
        logits_AL = 80 * sign_AL + 3 * (sign_AL == 0)
    else:
        logits_AL = 80 * (2 * np.eye(k)[owner_A] - 1)
    costs = diversity.term(form, "eq2", torch.from_numpy(logits_AL), torch.from_numpy(np.eye(k)[owner_A]))
    assert costs.item() == pytest.approx(0, abs=1e-30)


def all_experts(k, each, atoms_count):
    """Every k distributions whose probabilities are multiples of 1/each, as counts [k, atoms_count]."""
    counts = [c for c in product(range(each + 1), repeat=atoms_count) if sum(c) == each]
    return [np.array(choice) for choice in product(counts, repeat=k)]


def term_at_optimum(form, scale, counts_KA):
    """The classifier's loss of these experts with C*, by the loss that trains."""
    made, each = torch.cat([atoms(c) for c in counts_KA]), counts_KA[0].sum()
    logits_AL = optimal_classifier(form, counts_KA / each)
    return diversity.term(form, scale, logits_AL[made], makers(len(counts_KA), each)).item()


def adversarial_at_optimum(data_A, counts_KA):
    """E_data log D* + E_model log(1 - D*), by the losses that train."""
    model_A = counts_KA.sum(axis=0)
    score_A = torch.from_numpy(np.log(data_A / data_A.sum() + NOTHING) - np.log(model_A / model_A.sum() + NOTHING))
    return (-Minimax().real(score_A[atoms(data_A)]) + Minimax().generator(score_A[atoms(model_A)])).item()


def disjoint(counts_KA):
    return all((a * b).sum() == 0 for a, b in combinations(counts_KA, 2))


GAMES = [(2, 2, 4), (3, 2, 3)]
"""Numbers of experts, samples of each, atoms of uniform data. In the second, overlapping experts can be the data."""


@pytest.mark.parametrize("game", GAMES, ids=str)
def test_lemma_2_holds_both_ways(game):
    """JSD is log K if and only if no atom has two experts: of all experts there are, disjoint and overlapping ones."""
    k, each, _ = game
    seen = set()
    for counts_KA in all_experts(*game):
        made = torch.cat([atoms(c) for c in counts_KA])
        logits_AK = optimal_classifier("general", counts_KA / each)
        divergence = diversity.jsd(logits_AK[made], makers(k, each)).item()
        assert divergence == pytest.approx(jsd(*(counts_KA / each)), abs=1e-12)
        assert (divergence > np.log(k) - 1e-9) == disjoint(counts_KA)
        seen.add(disjoint(counts_KA))
    assert seen == {True, False}


@pytest.mark.parametrize("scale", ["eq2", "literal"])
@pytest.mark.parametrize("form", FORMS)
def test_theorem_3_holds_for_every_form(form, scale):
    """The least value is -log 4, where the experts together are the data and disjoint, and only there."""
    for game in GAMES:
        data_A = np.ones(game[2], dtype=int)
        for beta in (0.05, 1.0):
            minima = 0
            for counts_KA in all_experts(*game):
                value = adversarial_at_optimum(data_A, counts_KA) + beta * term_at_optimum(form, scale, counts_KA)
                fits = len(set(counts_KA.sum(axis=0))) == 1
                assert value > -np.log(4) - 1e-9
                assert (value < -np.log(4) + 1e-9) == (fits and disjoint(counts_KA))
                minima += fits and disjoint(counts_KA)
            assert minima == 6  # pairs of four atoms; orders of three


def test_without_beta_experts_need_not_be_disjoint():
    """With beta 0 every split of the data reaches -log 4."""
    data_A = np.ones(3, dtype=int)
    least = [c for c in all_experts(*GAMES[1]) if adversarial_at_optimum(data_A, c) < -np.log(4) + 1e-9]
    assert {disjoint(counts_KA) for counts_KA in least} == {True, False}


@pytest.mark.parametrize("form", FORMS)
def test_theorem_3_needs_data_that_can_be_split(form):
    """Two experts cannot share atoms of 3/4 and 1/4 equally: -log 4 is not reached, and beta moves them off the data.

    Expert 1 makes the first atom alone, expert 2 makes it with probability t; t = 1/2 is the data.
    """
    data_A, each = np.array([3, 1]), 40

    def best(beta):
        choices = [np.array([[each, 0], [n, each - n]]) for n in range(each + 1)]
        values = [adversarial_at_optimum(data_A, c) + beta * term_at_optimum(form, "eq2", c) for c in choices]
        assert min(values) > -np.log(4) + 1e-3 or beta == 0
        return int(np.argmin(values)) / each

    assert best(0) == 0.5
    assert 0.5 > best(0.1) > best(0.3) >= best(1) == 0


def test_figure_shows_equation_11():
    """The divergence and the adversarial value that `make theory` draws."""
    p_KA, data_A = np.array(random_counts(4)) / EACH, random_counts(5)[-1] / EACH
    assert theory.classifier_loss("general", torch.from_numpy(p_KA)) == pytest.approx(np.log(4) - jsd(*p_KA), abs=1e-12)
    value = theory.adversarial_value(torch.from_numpy(data_A), torch.from_numpy(p_KA.mean(axis=0)))
    assert value == pytest.approx(-np.log(4) + 2 * jsd(data_A, p_KA.mean(axis=0)), abs=1e-12)
    shared = theory.experts_sharing(0.3)
    for form in FORMS:
        assert theory.classifier_loss(form, torch.ones(4, 4, dtype=torch.double) / 4) == pytest.approx(np.log(4))
        assert theory.diversity_of(form, theory.experts_sharing(0)) == pytest.approx(1)
    assert theory.diversity_of("general", shared) == pytest.approx(jsd(*shared.numpy()) / np.log(4))


@pytest.mark.parametrize("k", COUNTS)
@pytest.mark.parametrize("form", FORMS)
def test_between_equal_and_disjoint_experts(form, k):
    """Equal experts cost log K at C*, any others less, and never less than 0."""
    counts = random_counts(k)
    same = np.repeat(counts[:1], k, axis=0)
    values = []
    for c in (same, counts):
        made = torch.cat([atoms(row) for row in c])
        values.append(diversity.term(form, "eq2", optimal_classifier(form, c / EACH)[made], makers(k)).item())
    assert values[0] == pytest.approx(np.log(k), rel=1e-12)
    assert 0 < values[1] < values[0]


# MAD-GAN: one softmax over real (0) and K experts


def multiclass(logits_NC):
    """The head's judgement of these logits."""

    def identity(weight, bias, inputs):
        nn.init.eye_(weight)
        nn.init.zeros_(bias)

    classes = logits_NC.shape[1]
    return MulticlassHead(classes - 1, classes, identity, spectral_norm=False).double()(logits_NC)


def softmax(logits_NC):
    odds = np.exp(logits_NC.detach().numpy())
    return odds / odds.sum(axis=1, keepdims=True)


def discriminators_loss(real_NC, fake_NC, k):
    """As objective=madgan has it: real 1, fakes K, the classifier's among them."""
    real, fake = multiclass(real_NC), multiclass(fake_NC)
    weights = torch.eye(k, dtype=torch.double).repeat_interleave(len(fake_NC) // k, dim=0)
    classifier = diversity.term("general", "eq2", fake.expert_logits_NL, weights)
    return NonSaturating().real(real.scores_N) + k * (NonSaturating().fake(fake.scores_N) + classifier)


@pytest.mark.parametrize("k", [1, *COUNTS])
def test_madgans_discriminator_is_a_cross_entropy_over_k_plus_1(k):
    """Value and gradient, with weight 1 for the real batch and for each expert's. K = 1: the GAN with two logits."""
    reals, each = 6, 4
    real = (2 * torch.randn(reals, k + 1).double()).requires_grad_()
    fake = (2 * torch.randn(k * each, k + 1).double()).requires_grad_()
    loss = discriminators_loss(real, fake, k)
    loss.backward()
    of_real, of_fake, makers_N = softmax(real), softmax(fake), np.repeat(np.arange(1, k + 1), each)
    expected = -np.log(of_real[:, 0]).mean()
    for i in range(1, k + 1):
        expected -= np.log(of_fake[makers_N == i, i]).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    classes = np.eye(k + 1)
    np.testing.assert_allclose(real.grad.numpy(), (of_real - classes[0]) / reals, atol=1e-14)
    np.testing.assert_allclose(fake.grad.numpy(), (of_fake - classes[makers_N]) / each, atol=1e-14)


@pytest.mark.parametrize("k", [1, *COUNTS])
def test_madgans_generators_want_to_be_real(k):
    fake = (2 * torch.randn(8, k + 1).double()).requires_grad_()
    loss = NonSaturating().generator(multiclass(fake).scores_N)
    loss.backward()
    probability = softmax(fake)
    assert loss.item() == pytest.approx(-np.log(probability[:, 0]).mean(), rel=1e-12)
    np.testing.assert_allclose(fake.grad.numpy(), (probability - np.eye(k + 1)[0]) / 8, atol=1e-14)


def test_one_madgan_expert_is_a_standard_gan():
    """The softmax of two logits is the sigmoid of their difference, and there is nothing to classify."""
    logits = torch.randn(5, 2).double()
    score, experts, _ = multiclass(logits)
    np.testing.assert_allclose(1 / (1 + np.exp(-score.detach().numpy())), softmax(logits)[:, 0], rtol=1e-12)
    assert diversity.term("general", "eq2", experts, torch.ones(5, 1).double()).item() == 0


def madgans_optimum(data_A, counts_KA):
    """E_d log D*_real + sum_i E_i log(1 - D*_real), by the losses: data_A of any total, experts of EACH samples."""
    k, p_KA, p_data = len(counts_KA), counts_KA / EACH, data_A / data_A.sum()
    classes_AC = np.log(np.stack([p_data, *p_KA], axis=1))  # a softmax of which is p_i / (p_d + sum_j p_j)
    score_A = multiclass(torch.from_numpy(classes_AC)).scores_N
    generated = atoms(counts_KA.sum(axis=0))
    return (-Minimax().real(score_A[atoms(data_A)]) + k * Minimax().generator(score_A[generated])).item()


@pytest.mark.parametrize("k", [1, *COUNTS])
def test_madgans_minimum(k):
    """-(K + 1) log(K + 1) + K log K where the experts' mean is the data; above it by a divergence elsewhere."""
    counts = random_counts(k)
    minimum = -(k + 1) * np.log(k + 1) + k * np.log(k)
    assert madgans_optimum(counts.sum(axis=0), counts) == pytest.approx(minimum, abs=1e-12)
    other_A = random_counts(k + 1)[-1]
    p_data, p_model = other_A / EACH, counts.mean(axis=0) / EACH
    mixed = (p_data + k * p_model) / (k + 1)
    divergence = (k + 1) * entropy(mixed) - entropy(p_data) - k * entropy(p_model)
    assert divergence > 0.01
    assert madgans_optimum(other_A, counts) == pytest.approx(minimum + divergence, abs=1e-12)


@pytest.mark.parametrize("k", COUNTS)
def test_madgans_optimal_discriminator_is_optimal(k):
    """D*_i = p_i / (p_d + sum_j p_j): no gradient is left."""
    data_A, *counts = random_counts(k + 1)
    classes_AC = torch.from_numpy(np.log(np.stack([data_A, *counts], axis=1))).requires_grad_()
    made = torch.cat([atoms(c) for c in counts])
    discriminators_loss(classes_AC[atoms(data_A)], classes_AC[made], k).backward()
    assert classes_AC.grad.abs().max().item() < 1e-13
