"""The protocol: all that decides a number but the generator. It is stored with each number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import RunError

if TYPE_CHECKING:
    from mixgan_cli.evaluation.comparison import Comparison

TOLD = {
    "name",
    "batch",
    "precision",
    "splits",
    "neighbours",
    "neighbour_features",
    "ms_ssim_pairing",
    "feature_layer",
    "seed",
}
NOT_PROTOCOL = frozenset({"nimg", "checkpoint", "sample_seeds", "fakes"})
"""What tells one generator's samples from another's."""


def protocol_of(
    evaluation: Evaluation, comparison: Comparison, about: Mapping[str, Any], reals: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the protocol of what was measured."""
    return {
        "n_fake": len(comparison.fake),
        "n_real": len(comparison.real),
        **evaluation.model_dump(mode="json", include=TOLD),
        **about,
        **comparison.notes,
        "reals": dict(reals),
    }


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return a line for each point in which two protocols differ; numbers of equal protocols may be compared."""
    one, other = dict(_flat(first)), dict(_flat(second))
    return [
        f"{key}: {one.get(key, 'absent')} and {other.get(key, 'absent')}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def require_comparable(first: Mapping[str, Any], second: Mapping[str, Any], force: bool = False) -> None:
    """Refuse to compare numbers of different protocols, unless forced.

    Raises:
        RunError: naming the differences.
    """
    different = differences(first, second)
    if different and not force:
        raise RunError(
            "these numbers are not comparable (force=true compares them all the same):\n  " + "\n  ".join(different)
        )


def _flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in protocol.items():
        if not prefix and key in NOT_PROTOCOL:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
