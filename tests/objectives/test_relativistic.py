"""Relativistic pairing with R1 and R2 (Huang et al. 2024), against numbers and formulas of the specification."""

import numpy as np
import pytest
import torch

from mixgan_cli.objectives import RelativisticPairing, ZeroCentred
from mixgan_cli.objectives.pairing import pair
from tests.objectives.test_penalties import SHAPE, critic, numerical_gradient

LOSS = RelativisticPairing()
REAL, FAKE = torch.tensor([1, -0.5, 2]).double(), torch.tensor([0.5, 0, -1]).double()


def losses(real, fake):
    return LOSS.discriminator(real, fake).item(), LOSS.generator(real, fake).item()


def test_losses_of_three_pairs():
    assert losses(REAL, FAKE) == pytest.approx((0.498914, 1.498914), abs=5e-7)
    terms = [LOSS.discriminator(real[None], fake[None]).item() for real, fake in zip(REAL, FAKE, strict=True)]
    assert terms == pytest.approx([0.474077, 0.974077, 0.048587], abs=5e-7)


def test_losses_depend_on_the_pairs():
    assert losses(REAL, FAKE.roll(1))[0] == pytest.approx(0.522373, abs=5e-7)
    every = losses(REAL.repeat_interleave(3), FAKE.repeat(3))
    assert every == pytest.approx((0.450290, 1.450290), abs=5e-7)


def test_difference_of_the_losses_is_that_of_the_scores():
    real, fake = torch.randn(50).double(), torch.randn(50).double()
    of_discriminator, of_generator = losses(real, fake)
    assert of_generator - of_discriminator == pytest.approx((real - fake).mean().item(), rel=1e-10)


def test_a_constant_added_to_all_scores_changes_nothing():
    assert losses(REAL + 7, FAKE + 7) == pytest.approx(losses(REAL, FAKE), rel=1e-12)


def test_large_scores_stay_finite():
    scores = torch.tensor([-1e4, 0.0, 1e4])
    assert all(np.isfinite(losses(scores, scores.flip(0))))


def test_generators_gradient_has_the_weights_of_the_pairs():
    """-mean of sigmoid(D(x_i) - D(G_i)), also if the real score has no gradient."""
    fake = FAKE.clone().requires_grad_()
    LOSS.generator(REAL, fake).backward()
    np.testing.assert_allclose(fake.grad, -1 / (1 + np.exp(-(REAL - FAKE).numpy())) / 3, rtol=1e-12)


# Pairs


def indices(n, m, *arguments):
    """The pairs, as numbers of real and of generated samples."""
    real, fake = pair(torch.arange(n), torch.arange(m), *arguments)
    return list(zip(real.tolist(), fake.tolist(), strict=True))


def test_pairs_are_by_position():
    assert indices(4, 4) == [(0, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("n", "m"), [(5, 3), (3, 5), (4, 12)])
def test_smaller_batch_is_used_again(n, m):
    assert indices(n, m) == [(i % n, i % m) for i in range(max(n, m))]


def test_each_experts_fakes_meet_all_reals():
    """MAD-GAN's numbers: K parts of n fakes, each with the same n reals."""
    assert indices(3, 6, 2, True) == [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4), (2, 5)]
    assert indices(4, 6, 2, True) == [(0, 0), (1, 1), (2, 2), (3, 0), (0, 3), (1, 4), (2, 5), (3, 3)]


def test_experts_take_turns_and_none_keeps_its_reals():
    """Two experts with two fakes each: in consecutive pairs they alternate, beginning with either."""
    seen = {tuple(indices(4, 4, 2)) for _ in range(40)}
    assert seen == {((0, 0), (1, 2), (2, 1), (3, 3)), ((0, 2), (1, 0), (2, 3), (3, 1))}


def test_all_pairs_of_experts_and_reals_are_equally_frequent():
    counts = np.zeros((3, 6))
    for _ in range(3000):
        for real, fake in indices(6, 6, 3):
            counts[fake // 2, real] += 1
    assert (counts.sum(axis=0) == 3000).all() and abs(counts - 1000).max() < 120


def test_pairs_of_two_ranks_are_those_of_one():
    """Each rank has half of the reals, and of each expert's fakes."""
    reals, fakes = torch.arange(8), torch.arange(12)

    def paired(rank, ranks):
        torch.manual_seed(4)
        own = fakes[:8].view(2, ranks, -1)[:, rank].flatten()
        return list(zip(*(part.tolist() for part in pair(reals.chunk(ranks)[rank], own, 2)), strict=True))

    assert sorted(paired(0, 2) + paired(1, 2)) == sorted(paired(0, 1))


# Penalty


def penalty_of(network, samples, generated, **settings):
    samples = samples.clone().requires_grad_()
    return ZeroCentred(**settings)(samples, network(samples), generated)


@pytest.mark.parametrize("generated", [False, True])
def test_penalty_against_finite_differences(generated):
    network, samples = critic(), torch.randn(4, *SHAPE).double()
    squares = [(numerical_gradient(network, point) ** 2).sum() for point in samples]
    value = penalty_of(network, samples, generated, weight=3.0)
    assert value.item() == pytest.approx(1.5 * np.mean(squares), rel=1e-7)
    value.backward()
    assert network[0].weight.grad.abs().sum() > 0


def test_penalty_of_a_linear_critic_equals_its_squared_norm():
    weight = torch.tensor([3.0, 4.0])
    assert penalty_of(lambda x: x @ weight, torch.randn(7, 2), False, weight=0.05).item() == pytest.approx(0.625)


@pytest.mark.parametrize("kind", ["real", "fake"])
def test_penalty_of_one_kind_of_samples(kind):
    chosen = {"real": kind == "real", "fake": kind == "fake"}
    values = [penalty_of(critic(), torch.randn(2, *SHAPE).double(), of, weight=1.0, **chosen) for of in (False, True)]
    assert [value is not None for value in values] == [kind == "real", kind == "fake"]


def test_gradient_passes_through_the_augmentation():
    """D(T(x)) with T(x) = x/2: the gradient with respect to x is half of that at T(x)."""
    weight = torch.tensor([3.0, 4.0])
    samples = torch.randn(5, 2, requires_grad=True)
    assert ZeroCentred(0.05)(samples, (samples / 2) @ weight, False).item() == pytest.approx(0.625 / 4)
