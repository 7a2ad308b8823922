"""MAD-GAN-Sim's term, against a loop over experts, rivals and latents."""

import numpy as np
import pytest
import torch

from mixgan_cli.objectives.terms import Competition, GeneratedBatch

K, B, F = 3, 5, 4
WEIGHT = 0.3


def judged():
    """Scores and features of K experts' samples at the same B latents, expert after expert."""
    score = torch.randn(K * B, dtype=torch.double, requires_grad=True)
    features = torch.randn(K * B, F, dtype=torch.double, requires_grad=True)
    return score, features


def competition(score, features, others, through=False, reversed_sign=False):
    """The value of the term, of as many experts as make K equal parts."""
    samples = torch.zeros(len(score), 1)
    batch = GeneratedBatch(samples, samples, samples, score, None, features)
    return Competition(WEIGHT, others, through, 2 if len(score) == 2 else K, reversed_sign)(batch)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def margins(score, features, others):
    """How far the rivals of expert i are ahead at latent b, [K, B]."""
    p, phi = sigmoid(score.detach().numpy()).reshape(K, B), features.detach().numpy().reshape(K, B, F)
    ahead = np.empty((K, B))
    for i in range(K):
        for b in range(B):
            rivals = [
                p[j, b] + phi[i, b] @ phi[j, b] / np.linalg.norm(phi[i, b]) / np.linalg.norm(phi[j, b])
                for j in range(K)
                if j != i
            ]
            ahead[i, b] = (np.mean(rivals) if others == "mean" else max(rivals)) - p[i, b]
    assert (ahead > 0).any() and (ahead < 0).any() and np.abs(ahead).min() > 1e-3  # both sides, and no kink
    return ahead


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("others", ["mean", "max"])
def test_values(others, through):
    score, features = judged()
    expected = np.maximum(0, margins(score, features, others)).mean()
    assert competition(score, features, others, through).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("others", ["mean", "max"])
def test_only_the_own_score_has_a_gradient(others):
    """-(1 / KB) D (1 - D) where rivals are ahead, 0 elsewhere; as a rival no score has any, nor have features."""
    score, features = judged()
    competition(score, features, others).backward()
    p = sigmoid(score.detach().numpy())
    expected = -1 / (K * B) * p * (1 - p) * (margins(score, features, others).reshape(-1) > 0)
    np.testing.assert_allclose(score.grad.numpy(), expected, atol=1e-16)
    assert features.grad is None


@pytest.mark.parametrize("others", ["mean", "max"])
def test_gradients_through_similarity(others):
    score, features = judged()
    margins(score, features, others)
    assert torch.autograd.gradcheck(lambda s, f: competition(s, f, others, through=True), (score, features))
    competition(score, features, others, through=True).backward()
    assert features.grad.abs().max().item() > 1e-3


@pytest.mark.parametrize("others", ["mean", "max"])
def test_released_code_reverses_the_gradient_only(others):
    """Its value is the formula's. Its gradient of D(G_i) lacks the minus, which lowers the score of who is behind."""
    score, features = judged()
    value = competition(score, features, others)
    (expected,) = torch.autograd.grad(value, score)
    released = competition(score, features, others, reversed_sign=True)
    (found,) = torch.autograd.grad(released, score)
    assert released.item() == pytest.approx(value.item(), rel=1e-12)
    assert expected.min() < 0 <= found.min()
    np.testing.assert_allclose(found.numpy(), -expected.numpy(), atol=1e-16)


def test_similar_experts_are_pushed_harder():
    """The same features and score: rivals are ahead by the likeness, 1. Opposite features: they are not."""
    score, features = torch.zeros(2).double(), torch.tensor([[1.0, 2.0], [3.0, 6.0]]).double()
    assert competition(score, features, "mean").item() == pytest.approx(1, rel=1e-12)
    assert competition(score, features * torch.tensor([[1.0], [-1.0]]), "mean").item() == 0


@pytest.mark.parametrize("others", ["mean", "max"])
def test_latents_do_not_compete(others):
    """Another latent's samples change its own part alone: the term is a mean over latents."""
    score, features = judged()
    apart = [competition(score[b::B], features[b::B], others).item() for b in range(B)]
    assert competition(score, features, others).item() == pytest.approx(np.mean(apart), rel=1e-12)
