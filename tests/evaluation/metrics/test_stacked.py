"""Modes of Stacked MNIST against known values."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.datasets.stacked_mnist import StackedDigits, StackedMNIST
from mixgan_cli.evaluation.classifier import ImageClassifier
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.evaluation.metrics.stacked import classify, count_triples, divergence, perfect_sampler
from mixgan_cli.evaluation.reference import ReferenceSet, reference_set
from tests.conftest import composed, real_folder

EQUAL = torch.full((1000,), 1e-3, dtype=torch.float64)
TRAIN_DIGITS = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], dtype=torch.float64)


def triples(shares):
    return torch.einsum("r,g,b->rgb", shares, shares, shares).flatten()


def test_triples_are_counted_by_their_digits():
    counts = count_triples(torch.tensor([[0, 0, 0], [1, 2, 3], [1, 2, 3], [9, 9, 9]]))
    assert counts.shape == (1000,) and counts.sum() == 4
    assert {i: counts[i].item() for i in counts.nonzero().flatten().tolist()} == {0: 1, 123: 2, 999: 1}


@pytest.mark.parametrize(
    ("modes", "expected"),
    [(1, 6.9078), (16, 4.1352), (100, 2.3026), (150, 1.8971), (500, 0.6931), (959, 0.0419), (1000, 0.0)],
)
def test_divergence_of_equal_modes(modes, expected):
    counts = torch.zeros(1000, dtype=torch.int64)
    counts[torch.randperm(1000)[:modes]] = 7
    assert divergence(counts, EQUAL) == pytest.approx(math.log(1000 / modes), abs=1e-12)
    assert divergence(counts, EQUAL) == pytest.approx(expected, abs=5e-5)


def test_divergence_equals_scipy():
    counts = torch.from_numpy(np.random.default_rng(0).poisson(3, 1000))
    target = triples(TRAIN_DIGITS / TRAIN_DIGITS.sum())
    assert divergence(counts, target) == pytest.approx(stats.entropy(counts.numpy(), target.numpy()), rel=1e-12)


def test_digits_of_mnist_are_not_balanced():
    assert divergence(triples(TRAIN_DIGITS), EQUAL) == pytest.approx(0.00428, abs=5e-6)


@pytest.mark.parametrize(
    ("n", "modes", "kl", "tolerance"),
    [
        (1_000, 632, 0.573, 0.01),
        (2_500, 918, 0.2232, 0.004),
        (10_000, 1000, 0.0511, 0.001),
        (26_000, 1000, 0.0193, 4e-4),
    ],
)
def test_value_of_a_perfect_sampler(n, modes, kl, tolerance):
    found = perfect_sampler(n, EQUAL)
    assert found[0] == pytest.approx(modes, abs=5) and found[1] == pytest.approx(kl, abs=tolerance)


def test_value_of_a_perfect_sampler_of_mnist():
    assert perfect_sampler(26_000, triples(TRAIN_DIGITS))[1] == pytest.approx(0.0236, abs=6e-4)


def test_each_channel_is_classified_alone():
    network = ImageClassifier(1, 8, 10).eval()
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    found = classify(images, network, torch.device("cpu"))
    with torch.no_grad():
        expected = torch.stack([network(images[:, i : i + 1] / 127.5 - 1)[1].argmax(1) for i in range(3)], dim=1)
    assert torch.equal(found, expected)


@pytest.mark.integ
def test_real_stacks_have_the_value_of_a_perfect_sampler():
    """With a classifier of 5,000 digits, which trains in half a minute."""
    source = StackedMNIST(str(real_folder("MIXGAN_DATA", "MNIST").parent), 28)
    single = source.load().single
    dataset = StackedDigits(ImageDataset(single.train.subset(torch.arange(5_000)), single.held_out), "train")
    evaluation = composed("data=stacked_mnist", "evaluation=stacked", "evaluation.metrics=[stacked]").evaluation
    evaluator = Evaluator(evaluation, reference_set(source, dataset, evaluation), torch.device("cpu"))
    result = evaluator.measure(dataset.reals(10_000, 7), {})
    metrics = result.metrics
    assert metrics["stacked_accuracy"] > 0.95 and metrics["stacked_modes"] >= 998
    assert metrics["stacked_kl"] == pytest.approx(metrics["stacked_kl_real"], abs=0.02)
    assert result.protocol["stacked"]["accuracy"] == metrics["stacked_accuracy"]
    one_mode = dataset.reals(1, 7).expand(2_000, -1, -1, -1)
    assert evaluator.measure(one_mode, {}).metrics["stacked_kl"] == pytest.approx(math.log(1000))


def test_other_data_have_no_triples():
    evaluation = composed("data=digits", "evaluation.metrics=[stacked]").evaluation
    images = torch.zeros((4, 3, 8, 8), dtype=torch.uint8)
    result = Evaluator(evaluation, ReferenceSet(images, {}), torch.device("cpu")).measure(images, {})
    assert result.metrics == {} and "stacked_mnist" in result.unavailable["stacked_kl"]
