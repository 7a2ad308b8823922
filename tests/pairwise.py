"""Covering arrays: few rows in which any two values of different factors meet at least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

Value = tuple[str, str]
"""A factor and one of its choices."""
Pair = frozenset[Value]


def pairs_of(row: Mapping[str, str]) -> set[Pair]:
    """Return all pairs of values that meet in a row."""
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def all_pairs(factors: Mapping[str, Sequence[str]]) -> list[Pair]:
    """Return every pair of values of two factors, in a fixed order."""
    return [
        frozenset(((first, one), (second, other)))
        for first, second in combinations(factors, 2)
        for one, other in product(factors[first], factors[second])
    ]


def covering(factors: Mapping[str, Sequence[str]], refused: set[Pair]) -> list[dict[str, str]]:
    """Return rows that contain every pair of values, greedily and always the same.

    A pair that is refused has a row of its own, without another refused pair if possible. No other row contains one.
    """
    rows: list[dict[str, str]] = []
    missing = dict.fromkeys(all_pairs(factors))
    while missing:
        pair = next(iter(missing))
        row = dict(pair)
        for factor in factors:
            if factor not in row:
                row[factor] = min(factors[factor], key=lambda one: _cost({**row, factor: one}, missing, refused))
        rows.append({factor: row[factor] for factor in factors})
        covered = pairs_of(row)
        for found in {pair} if covered & refused else covered:
            missing.pop(found, None)
    return rows


def _cost(row: Mapping[str, str], missing: Mapping[Pair, None], refused: set[Pair]) -> tuple[int, int]:
    pairs = pairs_of(row)
    return len(pairs & refused), -len(pairs & missing.keys())
