"""The protocol: everything that determines a number except the generator. It is stored with each number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import RunError

SETTINGS = {
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
"""Keys of `evaluation` that a protocol records."""
NOT_COMPARED = frozenset({"nimg", "checkpoint", "sample_seeds", "fakes"})
"""Keys that identify the samples of one generator, and may differ between comparable numbers."""


def protocol_of(
    settings: Evaluation, n_fake: int, n_real: int, notes: Mapping[str, Any], reals: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the protocol of a measurement.

    Args:
        settings: the protocol's configuration.
        n_fake: number of generated samples.
        n_real: number of real samples.
        notes: what is known of the samples, and what metrics add.
        reals: description of the reference set.
    """
    return {
        "n_fake": n_fake,
        "n_real": n_real,
        **settings.model_dump(mode="json", include=SETTINGS),
        **notes,
        "reals": dict(reals),
    }


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return a line for each difference between two protocols. Numbers of equal protocols can be compared.

    Sets of images with equal checksums are the same set, whatever their names and preprocessing.
    """
    one, other = dict(_flat(first)), dict(_flat(second))
    for key in one.keys() & other.keys():
        if key.endswith(".checksum") and one[key] == other[key]:
            for each in (one, other):
                each.pop(f"{key.removesuffix('checksum')}preprocessing", None)
    return [
        f"{key}: {one.get(key, 'absent')} and {other.get(key, 'absent')}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def require_comparable(first: Mapping[str, Any], second: Mapping[str, Any], force: bool = False) -> None:
    """Refuse to compare numbers of different protocols, unless forced.

    Raises:
        RunError: with the differences.
    """
    different = differences(first, second)
    if different and not force:
        raise RunError(
            "these numbers are not comparable (force=true compares them anyway):\n  " + "\n  ".join(different)
        )


def _flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in protocol.items():
        if not prefix and key in NOT_COMPARED:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
