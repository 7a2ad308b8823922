"""Each loss against its definition, written with probabilities and NumPy in float64."""

import numpy as np
import pytest
import torch

from mixgan_cli.objectives import adversarial


def probability(scores):
    return 1 / (1 + np.exp(-scores))


DEFINITIONS = {  # discriminator's loss of (real, fake), generator's loss of fake; scores as NumPy arrays
    "Wasserstein": (lambda r, f: -r.mean() + f.mean(), lambda f: -f.mean()),
    "Minimax": (
        lambda r, f: -np.log(probability(r)).mean() - np.log(1 - probability(f)).mean(),
        lambda f: np.log(1 - probability(f)).mean(),
    ),
    "NonSaturating": (
        lambda r, f: -np.log(probability(r)).mean() - np.log(1 - probability(f)).mean(),
        lambda f: -np.log(probability(f)).mean(),
    ),
    "LeastSquares": (
        lambda r, f: 0.5 * np.mean((r - 1) ** 2) + 0.5 * np.mean(f**2),
        lambda f: 0.5 * np.mean((f - 1) ** 2),
    ),
    "Hinge": (
        lambda r, f: np.mean(np.maximum(0, 1 - r)) + np.mean(np.maximum(0, 1 + f)),
        lambda f: -f.mean(),
    ),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_values(name):
    loss, (of_discriminator, of_generator) = getattr(adversarial, name)(), DEFINITIONS[name]
    real, fake = 3 * torch.randn(64).double(), 3 * torch.randn(120).double()  # sizes differ: means are apart
    value = loss.real(real) + loss.fake(fake)
    assert value.item() == pytest.approx(of_discriminator(real.numpy(), fake.numpy()), rel=1e-12)
    assert loss.generator(fake).item() == pytest.approx(of_generator(fake.numpy()), rel=1e-12)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_gradients(name):
    loss = getattr(adversarial, name)()
    real = torch.randn(7, dtype=torch.double, requires_grad=True)
    fake = torch.randn(5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(loss.real, (real,))
    assert torch.autograd.gradcheck(loss.fake, (fake,))
    assert torch.autograd.gradcheck(loss.generator, (fake,))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_large_scores_stay_finite(name):
    loss, scores = getattr(adversarial, name)(), torch.tensor([-1e4, 0.0, 1e4])
    assert all(term(scores).isfinite() for term in (loss.real, loss.fake, loss.generator))


def test_hinge_losses_of_three_scores():
    real, fake, hinge = torch.tensor([1, -0.5, 2]), torch.tensor([0.5, 0, -1]), adversarial.Hinge()
    assert (hinge.real(real) + hinge.fake(fake)).item() == pytest.approx(4 / 3)
    assert hinge.generator(fake).item() == pytest.approx(1 / 6)


def test_zero_scores_give_the_losses_of_chance():
    """With all scores 0, the cross-entropy game is worth 2 log 2, and the non-saturating generator pays log 2."""
    zeros, loss = torch.zeros(8).double(), adversarial.NonSaturating()
    assert (loss.real(zeros) + loss.fake(zeros)).item() == pytest.approx(2 * np.log(2))
    assert loss.generator(zeros).item() == pytest.approx(np.log(2))
    assert adversarial.Minimax().generator(zeros).item() == pytest.approx(-np.log(2))
