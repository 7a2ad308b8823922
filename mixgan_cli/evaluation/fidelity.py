"""Inception score, KID, precision and recall of features: torch-fidelity's formulas. FID's is in moments.py."""

from __future__ import annotations

from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from mixgan_cli.runtime.device import total_memory

BLOCK = 2000
"""Rows of a matrix of distances that are looked at at a time."""


def inception_score(logits_NC: Tensor, splits: int, seed: int) -> tuple[float, float]:
    """Return mean and standard deviation over shuffled splits of exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016)."""
    score = isc_features_to_metric(logits_NC, splits=splits, shuffle=True, rng_seed=seed)
    return score[KEY_METRIC_ISC_MEAN], score[KEY_METRIC_ISC_STD]


def kid(fake_NF: Tensor, real_NF: Tensor, seed: int) -> tuple[float, float]:
    """Return mean and deviation of the kernel distance over 100 subsets of at most 1,000 (Bińkowski et al. 2018)."""
    size = min(1000, len(fake_NF), len(real_NF))
    result = kid_features_to_metric(fake_NF, real_NF, kid_subset_size=size, rng_seed=seed, verbose=False)
    return result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD]


def memory_of_precision_recall(samples: int, features: int) -> int:
    """Return the bytes that `precision_recall` takes at most beside the features of so many samples.

    For each row of a block: its distances, the same put together, a copy with 64-bit indices to sort them, and as much
    again for what the allocator does not give back (measured: 5 to 7 times the distances).
    """
    return 4 * BLOCK * (8 * samples + 2 * features)


def precision_recall(fake_NF: Tensor, real_NF: Tensor) -> tuple[float, float]:
    """Return improved precision and recall with 3 neighbours (Kynkäänniemi et al. 2019), block by block.

    Raises:
        MemoryError: the blocks would take more than half of the machine's memory.
    """
    longest = max(len(fake_NF), len(real_NF))
    needed = memory_of_precision_recall(longest, fake_NF.shape[1])
    if needed > total_memory() / 2:
        there = total_memory() / 2**30
        raise MemoryError(f"{longest:,} samples would take {needed / 2**30:.1f} of {there:.1f} GiB")
    result = prc_features_to_metric(fake_NF, real_NF, save_cpu_ram=True, prc_batch_size=BLOCK, verbose=False)
    return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]
