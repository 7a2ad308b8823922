"""Modes of Stacked MNIST: which triples of digits a generator makes, and how evenly."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import classifier
from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey

TRIPLES = 1000
FLOOR_DRAWS = 20
"""Number of perfect samplers over which the values of real samples are averaged."""
BATCH = 500


class StackedModes(Metric):
    """Number of triples of digits among the samples, and the divergence of their frequencies from equal ones.

    A classifier of single digits is trained once on the data set's. Its errors make modes where there are none: with
    0.75 % errors, a generator of one single triple seems to have 32. The divergence is hardly affected.
    """

    name = "stacked"
    requires = ("images",)
    results: ClassVar = {
        "stacked_modes": ResultKey(
            "higher", "Number of the 1,000 triples of digits that occur; errors of the classifier add to it.", rank=None
        ),
        "stacked_modes_real": ResultKey(role="of_real"),
        "stacked_kl": ResultKey(
            "lower",
            "KL divergence of the frequencies of the triples from equal ones, in nats; lower is better. "
            "stacked_kl_real is its mean for as many real images.",
            rank=45,
        ),
        "stacked_kl_real": ResultKey(role="of_real"),
        "stacked_kl_digits": ResultKey(
            "lower", "The same divergence from the frequencies in the training set.", rank=None, role="variant"
        ),
        "stacked_accuracy": ResultKey(meaning="Accuracy of the classifier on the test digits.", role="detail"),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return all values. Raises Unavailable if the reference set is not Stacked MNIST."""
        digits = comparison.reference.digits
        if digits is None:
            raise Unavailable("only for data=stacked_mnist")
        if comparison.fake.shape[1] != 3:
            raise Unavailable(f"needs images of three channels, not {comparison.fake.shape[1]}")
        path = classifier.weights_for(digits, comparison.device)
        accuracy = classifier.accuracy_of(path)
        comparison.notes["stacked"] = {
            "target": "1/1000",
            "logarithm": "natural",
            "classifier": f"mixgan {classifier.VERSION}, {digits.train.shape[-1]} px",
            "accuracy": accuracy,
        }
        network = classifier.load(path).to(comparison.device)
        counts = count_triples(classify(comparison.fake, network, comparison.device))
        assert digits.train.labels_N is not None
        shares = torch.bincount(digits.train.labels_N, minlength=10).double() / len(digits.train)
        frequencies = torch.einsum("r,g,b->rgb", shares, shares, shares).flatten()
        modes_real, kl_real = perfect_sampler(len(comparison.fake), frequencies)
        return {
            "stacked_modes": int((counts > 0).sum()),
            "stacked_modes_real": modes_real,
            "stacked_kl": divergence(counts, torch.full_like(frequencies, 1 / TRIPLES)),
            "stacked_kl_real": kl_real,
            "stacked_kl_digits": divergence(counts, frequencies),
            "stacked_accuracy": accuracy,
        }


@torch.no_grad()
def classify(images_N3HW: Tensor, network: classifier.ImageClassifier, device: torch.device) -> Tensor:
    """Return the digit in each channel, int64 [N, 3], of images uint8 [N, 3, H, W] of any size.

    A classifier reads each channel alone (Metz et al. 2016; PacGAN's code).
    """
    found = []
    for images in images_N3HW.split(BATCH):
        single = images.flatten(0, 1).unsqueeze(1).to(device)
        found.append(network.read(single)[1].argmax(dim=1).view(-1, 3).cpu())
    return torch.cat(found)


def count_triples(digits_N3: Tensor) -> Tensor:
    """Return how often each triple of digits [N, 3] occurs, int64 [1000]; the triple (1, 2, 3) is number 123.

    A triple is a mode of Stacked MNIST (Metz et al. 2016).
    """
    return torch.bincount(digits_N3 @ torch.tensor([100, 10, 1]), minlength=TRIPLES)


def divergence(counts_M: Tensor, target_M: Tensor) -> float:
    """Return KL(p ‖ q) in nats of the frequencies p of counts [M] from a target q [M]: Σ p log(p / q) over what occurs.

    Lin et al. (PacGAN, NeurIPS 2018) take q equal for all modes.

    Of m equally frequent triples, the divergence from equal frequencies is log(1000 / m).
    """
    share_M = counts_M.double() / counts_M.sum()
    return torch.xlogy(share_M, share_M / target_M).sum().item()


def perfect_sampler(n: int, frequencies_M: Tensor, draws: int = FLOOR_DRAWS) -> tuple[float, float]:
    """Return the mean number of modes, and the mean divergence from equal frequencies, of n samples of a distribution.

    It is not 0 for equal frequencies [M], but about (M - 1) / 2n (our own estimate, by simulation).
    """
    probabilities = frequencies_M.numpy() / frequencies_M.sum().item()
    counts = torch.from_numpy(np.random.default_rng(0).multinomial(n, probabilities, draws))
    equal_M = torch.full_like(frequencies_M, 1 / len(frequencies_M))
    kl = [divergence(counts_M, equal_M) for counts_M in counts]
    return (counts > 0).double().sum(dim=1).mean().item(), float(np.mean(kl))
