"""Statistics of repeated runs: means with intervals, Holm's correction, main effects, and mean ranks.

All functions take arrays. What the values do not determine is None: no interval is made up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
"""Confidence of all intervals."""
ROUNDING = 1e-12
"""A deviation smaller than this share of the values is an error of rounding."""

Factors = Mapping[str, Sequence[str]]
"""The level of each of N runs, by the name of the factor."""


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval, `value` ± `half`, and the p-value of the hypothesis that it is 0."""

    value: float | None
    n: int
    half: float | None = None
    p: float | None = None

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half is None or self.value is None else self.value - self.half

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half is None or self.value is None else self.value + self.half


@dataclass(frozen=True)
class Effect:
    """The effect of one level of a factor: its difference from the mean of the levels that it can be compared with."""

    level: str
    n: int
    """The number of runs with this level."""
    estimate: Estimate | None
    """None if it can be compared with no other level."""
    compared: tuple[str, ...]
    """The levels that the design allows to compare, with this one."""


def mean_estimate(values_N: np.ndarray) -> Estimate:
    """Return the mean with Student's t interval and the p-value of the t-test that it is 0.

    For differences of paired values this is the paired t-test. Fewer than two values, or equal ones, have neither an
    interval nor a p-value.
    """
    n = len(values_N)
    if not n:
        return Estimate(None, 0)
    with np.errstate(all="ignore"):  # values near the largest number
        mean = float(np.mean(values_N))
        error = float(np.std(values_N, ddof=1)) / n**0.5 if n > 1 else 0.0
    return _with_interval(mean, error, n - 1, n, float(np.abs(values_N).max()))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values with Holm's correction over all of them that exist (Holm 1979).

    The i-th smallest of m, from 0, is multiplied by m - i; none is smaller than the one before, or larger than 1.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[index] = largest
    return corrected


def mean_ranks(values_CS: np.ndarray) -> np.ndarray:
    """Return the mean rank of each configuration over the seeds [C]; the lowest value of a seed has rank 1.

    Equal values share the mean of their ranks.
    """
    ranks_CS: np.ndarray = stats.rankdata(values_CS, axis=0)
    return ranks_CS.mean(axis=1)


def main_effects(factors: Factors, values_N: np.ndarray, block: Factors) -> dict[str, list[Effect]]:
    """Return the effects of the levels of each factor, by ordinary least squares with additive effects.

    A run's value is a constant plus one effect for each factor and the block, so the design need not be balanced. The
    effect of a level is its difference from the unweighted mean of the levels that it can be compared with: two levels
    can be compared if the design determines the difference of their effects.

    Args:
        factors: what varied.
        values_N: the values of the runs.
        block: what is in the model, too, but has no effects of interest, such as the seed.
    """
    model = _Design({**factors, **block})
    coefficients_P, deviation = model.fit(values_N)
    scale = float(np.abs(values_N).max())
    effects: dict[str, list[Effect]] = {}
    for name, levels in factors.items():
        effects[name] = []
        groups = model.comparable_levels(name)
        for level, n in Counter(levels).items():
            compared = next(group for group in groups if level in group)
            estimate = None
            if len(compared) > 1:
                weights_P = model.contrast(name, level, compared)
                value = float(weights_P @ coefficients_P)
                estimate = _with_interval(value, deviation * model.spread(weights_P), model.df, n, scale)
            effects[name].append(Effect(level, n, estimate, compared))
    return effects


def confounders(factors: Factors, name: str) -> list[str]:
    """Return the factors without each of which all levels of a factor could be compared; none if they can anyway."""
    if len(_Design(factors).comparable_levels(name)) == 1:
        return []
    others = {other: {key: levels for key, levels in factors.items() if key != other} for other in factors}
    return [
        other for other, rest in others.items() if other != name and len(_Design(rest).comparable_levels(name)) == 1
    ]


def joined_factors(factors: Factors) -> dict[str, list[str]]:
    """Return the factors that have several levels, those that always change together as one."""
    joined: dict[tuple[int, ...], list[str]] = {}
    for name, levels in factors.items():
        codes = {level: code for code, level in enumerate(dict.fromkeys(levels))}
        if len(codes) > 1:
            joined.setdefault(tuple(codes[level] for level in levels), []).append(name)
    return {
        ", ".join(names): [", ".join(levels) for levels in zip(*(factors[name] for name in names), strict=True)]
        for names in joined.values()
    }


class _Design:
    """A constant and an indicator of each level of each factor [N, P], with its singular value decomposition."""

    def __init__(self, factors: Factors) -> None:
        indicators = dict.fromkeys((name, level) for name, levels in factors.items() for level in levels)
        self.columns = {indicator: number for number, indicator in enumerate(indicators, start=1)}
        n = len(next(iter(factors.values())))
        self.design_NP = np.zeros((n, 1 + len(self.columns)))
        self.design_NP[:, 0] = 1
        for name, levels in factors.items():
            self.design_NP[np.arange(n), [self.columns[name, level] for level in levels]] = 1
        left_NR, singular_R, right_RP = np.linalg.svd(self.design_NP, full_matrices=False)
        rank = int((singular_R > singular_R[0] * max(self.design_NP.shape) * np.finfo(float).eps).sum())
        self.left_NR, self.singular_R, self.right_RP = left_NR[:, :rank], singular_R[:rank], right_RP[:rank]
        self.df = n - rank
        """Degrees of freedom of the residuals."""

    def fit(self, values_N: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the coefficients of least squares [P] with the smallest norm, and the residuals' deviation."""
        with np.errstate(all="ignore"):
            coefficients_P = self.right_RP.T @ ((self.left_NR.T @ values_N) / self.singular_R)
            residual = float(np.sqrt(np.square(values_N - self.design_NP @ coefficients_P).sum() / max(1, self.df)))
        return coefficients_P, residual

    def comparable_levels(self, name: str) -> list[tuple[str, ...]]:
        """Return the levels of a factor in groups: within one, the design determines every difference."""
        groups: list[tuple[str, ...]] = []
        for level in (level for factor, level in self.columns if factor == name):
            for number, group in enumerate(groups):
                difference_P = self._indicator(name, level) - self._indicator(name, group[0])
                if np.allclose(self.right_RP.T @ (self.right_RP @ difference_P), difference_P, atol=1e-8):
                    groups[number] = (*group, level)
                    break
            else:
                groups.append((level,))
        return groups

    def contrast(self, name: str, level: str, compared: Sequence[str]) -> np.ndarray:
        """Return the weights of the coefficients [P] in the difference of a level from the mean of several."""
        mean_P: np.ndarray = np.mean([self._indicator(name, each) for each in compared], axis=0)
        return self._indicator(name, level) - mean_P

    def spread(self, weights_P: np.ndarray) -> float:
        """Return the standard error of a weighted sum of coefficients, for residuals of deviation 1."""
        return float(np.linalg.norm((self.right_RP @ weights_P) / self.singular_R))

    def _indicator(self, name: str, level: str) -> np.ndarray:
        indicator_P = np.zeros(self.design_NP.shape[1])
        indicator_P[self.columns[name, level]] = 1
        return indicator_P


def _with_interval(value: float, error: float, df: int, n: int, scale: float) -> Estimate:
    """Return an estimate with the interval and p-value of Student's t, if its standard error is a positive number.

    Args:
        value: the estimate.
        error: its standard error.
        df: degrees of freedom.
        n: the number of values that it is made of.
        scale: size of the values.
    """
    if not np.isfinite(value):
        return Estimate(None, n)
    if abs(value) <= ROUNDING * scale:
        value = 0.0
    if df < 1 or not np.isfinite(error) or error <= ROUNDING * scale:
        return Estimate(value, n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    return Estimate(value, n, half, float(2 * stats.t.sf(abs(value) / error, df)))
