"""Improved precision and recall (Kynkäänniemi et al. 2019), by torch-fidelity's formula."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from mixgan_cli.evaluation.comparison import Comparison
from mixgan_cli.evaluation.metrics.base import Metric, ResultKey
from mixgan_cli.runtime.device import total_memory

BLOCK_ROWS = 2000
"""Rows of the distance matrix that are computed at a time."""


class PrecisionRecall(Metric):
    """Shares of generated and of real images that lie within the other set's manifold."""

    name = "prc"
    layer = "prc"
    requires = ("images",)
    results: ClassVar = {
        "precision": ResultKey(
            "higher", "Share of generated images that lie among the real ones; higher is better.", rank=70
        ),
        "recall": ResultKey(
            "higher", "Share of real images that lie among the generated ones; higher is better.", rank=None
        ),
    }

    def compute(self, comparison: Comparison, extractor: str | None) -> dict[str, Any]:
        """Return both shares."""
        assert extractor is not None
        precision, recall = precision_recall(*comparison.features(extractor, "prc"))
        return {"precision": precision, "recall": recall}


def memory_of_precision_recall(samples: int, features: int) -> int:
    """Return an upper bound on the bytes that `precision_recall` takes in addition to the features.

    Each row of a block has its distances, their concatenation, a copy with 64-bit indices for sorting, and as much
    again that the allocator does not return (measured: 5 to 7 times the distances).
    """
    return 4 * BLOCK_ROWS * (8 * samples + 2 * features)


def precision_recall(fake_NF: Tensor, real_NF: Tensor) -> tuple[float, float]:
    """Return precision and recall with 3 neighbours, computed block by block.

    Raises:
        MemoryError: the blocks would take more than half of the machine's memory.
    """
    longest = max(len(fake_NF), len(real_NF))
    needed = memory_of_precision_recall(longest, fake_NF.shape[1])
    if needed > total_memory() / 2:
        available = total_memory() / 2**30
        raise MemoryError(f"{longest:,} samples would take {needed / 2**30:.1f} of {available:.1f} GiB")
    centre_F = real_NF.double().mean(dim=0).to(real_NF.dtype)  # a large offset would cost the digits of distances
    fake_NF, real_NF = fake_NF - centre_F, real_NF - centre_F
    result = prc_features_to_metric(fake_NF, real_NF, save_cpu_ram=True, prc_batch_size=BLOCK_ROWS, verbose=False)
    return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]
