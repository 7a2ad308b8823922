import numpy as np
import pytest
import torch
from torch import nn

from mixgan_cli.objectives.penalties import R1, GradientPenalty, NoPenalty

SHAPE = (3, 4, 4)


def critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0)).double()


def numerical_gradient(network, point, step=1e-6):
    """Central differences, a pixel at a time."""
    gradient = np.zeros(point.shape)
    for index in np.ndindex(*point.shape):
        there, here = point.clone(), point.clone()
        there[index] += step
        here[index] -= step
        with torch.no_grad():
            gradient[index] = (network(there[None]) - network(here[None])).item() / (2 * step)
    return gradient


@pytest.mark.parametrize(("norm", "axes"), [("sample", (0, 1, 2)), ("pixel", 0)])
def test_against_finite_differences(norm, axes):
    network = critic()
    real, fake = torch.randn(5, *SHAPE).double(), torch.randn(5, *SHAPE).double()
    torch.manual_seed(7)
    penalty = GradientPenalty(weight=10.0, norm=norm)(network, real, fake)
    torch.manual_seed(7)
    alpha = torch.rand(5, 1, 1, 1, dtype=torch.double)
    between = real + alpha * (fake - real)
    norms = [np.sqrt((numerical_gradient(network, point) ** 2).sum(axis=axes)) for point in between]
    assert penalty.item() == pytest.approx(10 * np.mean((np.array(norms) - 1) ** 2), rel=1e-7)


def test_penalty_gradient_reaches_the_critic():
    """The penalty's own derivative, by finite differences over one weight of the critic."""
    network, penalty = critic(), GradientPenalty(weight=10.0, norm="sample")
    real, fake = torch.randn(3, *SHAPE).double(), torch.randn(3, *SHAPE).double()

    def value() -> torch.Tensor:
        torch.manual_seed(3)
        return penalty(network, real, fake)

    value().backward()
    weight = network[0].weight
    expected, step = weight.grad[0, 0, 0, 0].item(), 1e-6
    with torch.no_grad():
        weight[0, 0, 0, 0] += step
    above = value().item()
    with torch.no_grad():
        weight[0, 0, 0, 0] -= 2 * step
    assert (above - value().item()) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_penalty_of_a_linear_critic_of_unit_norm_is_zero():
    weight = torch.randn(48).double()
    weight /= weight.norm()
    penalty = GradientPenalty(weight=10.0, norm="sample")
    real, fake = torch.randn(8, *SHAPE).double(), torch.randn(8, *SHAPE).double()
    assert penalty(lambda x: x.flatten(1) @ weight, real, fake).item() == pytest.approx(0, abs=1e-20)
    assert penalty(lambda x: x.flatten(1) @ (3 * weight), real, fake).item() == pytest.approx(10 * 4)


def test_one_sided_penalty_leaves_small_gradients():
    """max(0, ‖∇D‖ - 1)² for norms of 0.5, 1.5 and 3 at three samples, with finite gradients of the critic."""
    slope = torch.tensor([0.5, 1.5, 3.0], dtype=torch.double).requires_grad_()
    real = torch.zeros(3, 1).double()
    penalty = GradientPenalty(weight=10.0, norm="sample", one_sided=True)
    value = penalty(lambda x: slope * x.squeeze(1), real, real)
    assert value.item() == pytest.approx(10 * (0.25 + 4) / 3, rel=1e-12)
    value.backward()
    assert slope.grad.tolist() == pytest.approx([0, 10 * 2 * 0.5 / 3, 10 * 2 * 2 / 3], rel=1e-12)


def test_for_points_both_norms_are_one():
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    real, fake, values = torch.randn(9, 2), torch.randn(9, 2), []
    for norm in ("sample", "pixel"):
        torch.manual_seed(1)
        values.append(GradientPenalty(weight=10.0, norm=norm)(network, real, fake).item())
    assert values[0] == values[1]


def test_interpolates_are_between_real_and_fake():
    seen = []
    GradientPenalty(weight=1.0, norm="sample")(
        lambda x: seen.append(x) or x.square().flatten(1).sum(1), torch.zeros(1000, 2), torch.ones(1000, 2)
    )
    (between,) = seen
    assert (between[:, 0] == between[:, 1]).all()  # one α a sample
    assert between.min() >= 0 and between.max() <= 1
    assert between.mean().item() == pytest.approx(0.5, abs=0.05)


def test_r1_against_finite_differences():
    """Half the weight times the mean squared norm at the real samples; fakes do not matter."""
    network, real = critic(), torch.randn(4, *SHAPE).double()
    squares = [(numerical_gradient(network, point) ** 2).sum() for point in real]
    penalty = R1(weight=3.0)(network, real, torch.full_like(real, torch.nan))
    assert penalty.item() == pytest.approx(1.5 * np.mean(squares), rel=1e-7)
    penalty.backward()
    assert network[0].weight.grad.abs().sum() > 0 and real.grad is None


def test_r1_of_a_linear_critic_equals_its_squared_norm():
    weight = torch.tensor([3.0, 4.0])
    assert R1(weight=0.05)(lambda x: x @ weight, torch.randn(7, 2), torch.zeros(7, 2)).item() == pytest.approx(0.625)


@pytest.mark.parametrize(("share", "rows"), [(1.0, range(8)), (0.25, [0, 4]), (0.01, [0, 4])])
def test_r1_of_a_share_of_the_batch(share, rows):
    network, real = critic(), torch.randn(8, *SHAPE).double()
    assert R1(2.0, share)(network, real, real) == R1(2.0)(network, real[list(rows)], real)


def test_r1_of_two_ranks_is_that_of_one():
    """Each rank has half of the batch; the mean over the ranks is that over the samples of one."""
    network, real = critic(), torch.randn(16, *SHAPE).double()
    of_ranks = [R1(2.0, 0.25)(network, part, part).item() for part in real.chunk(2)]
    assert np.mean(of_ranks) == pytest.approx(R1(2.0, 0.25)(network, real, real).item(), rel=1e-12)


def test_no_penalty_returns_none():
    assert NoPenalty()(critic(), torch.zeros(1), torch.zeros(1)) is None
