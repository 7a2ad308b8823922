"""Tables of statistics about a group of comparable runs with several seeds: paired differences and main effects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mixgan_cli.evaluation.metrics.registry import rank_value, result_key
from mixgan_cli.evaluation.ranking import best_value
from mixgan_cli.reporting.page import PageTable
from mixgan_cli.reporting.statistics import (
    Effect,
    Estimate,
    confounders,
    holm,
    joined_factors,
    main_effects,
    mean_estimate,
)
from mixgan_cli.reporting.sweep_table import Entry, Row, SweepTable
from mixgan_cli.reporting.tables import MISSING, mean_and_sd, without_constants

MAX_ROWS, MAX_OPEN = 200, 40
"""Most rows of a table on the page, and of one that is not folded."""
MAX_LEVELS, MAX_FACTORS = 12, 12
"""Most values of a key that has effects, as a search at random values has none, and most such keys."""
NAME_ONE = "baseline={KEY:VALUE} names the reference."
INTERVAL, HOLM = "95 % interval", "p (Holm)"
GLOSSARY = {
    "difference": "Paired difference: a configuration's value minus the reference's with the same seed, averaged over "
    "the seeds that both have (n). What a seed does to both sides cancels out.",
    "effect": "Difference between the mean of the runs with one value of a key and the mean over the key's values, "
    "while the other keys and the seed are held equal by a linear model.",
    INTERVAL: "Confidence interval: if the runs were repeated with other seeds, 95 of 100 such intervals would contain "
    "the true difference. If it contains 0, these runs do not show that there is a difference.",
    "p": "The probability of a difference at least as large if there were none (paired t-test).",
    HOLM: "p with Holm's correction: among many comparisons some p are small by chance, so each is raised by the "
    "number of comparisons. Below 0.05, the chance of any false difference in the table is at most 5 %.",
}
"""What the columns mean, for the glossary of the page."""


@dataclass(frozen=True)
class Configuration:
    """A row of the sweep's table: the keys that vary, and the newest run of each seed."""

    keys: Row
    by_seed: Mapping[str | None, Entry]

    @property
    def name(self) -> str:
        """The values in which it differs from the others."""
        return ", ".join(f"{key}={value}" for key, value in self.keys.items() if value is not None)

    def values(self, metric: str) -> dict[str | None, float]:
        """Return the value of each seed that has a metric."""
        return {seed: float(run.metrics[metric]) for seed, run in self.by_seed.items() if metric in run.metrics}

    def rank_values(self, metric: str) -> np.ndarray:
        """Return a number for each seed that has a metric, lower for better values; the metric has a direction."""
        return np.array([float(rank_value(metric, self.by_seed[seed].metrics)) for seed in self.values(metric)])


@dataclass(frozen=True)
class StatisticsTable:
    """A table for the page, and its rows with all digits."""

    name: str
    """The name of its files."""
    page: PageTable
    exact: Sequence[Row] = field(repr=False)
    formatted: Sequence[Row] = field(repr=False)


def measured_configurations(table: SweepTable) -> list[Configuration]:
    """Return the configurations of a group that have results."""
    keys = [key for key in table.keys if key != "seed"]
    return [
        Configuration({key: row[key] for key in keys}, {entry.seed: entry for entry in entries})
        for row, entries in table.grouped()
        if entries
    ]


def compared_metrics(table: SweepTable, chosen: Sequence[str] | None) -> list[str]:
    """Return the chosen metrics, by default those that rank runs, that are not equal in all runs of a group."""
    return [
        name
        for name in (table.ranking_metrics(1) if chosen is None else dict.fromkeys(chosen))
        if len({entry.metrics[name] for entry in table.entries if name in entry.metrics}) > 1
    ]


def statistics_tables(
    table: SweepTable, metrics: Sequence[str] | None, baseline: Mapping[str, str]
) -> list[StatisticsTable]:
    """Return the tables of a group whose runs have one protocol; none if no configuration has several seeds.

    Args:
        table: the runs of the group.
        metrics: those to compare; None: those that rank runs.
        baseline: values of keys of the reference. If several configurations have them, each of the others is compared
            with the one that has the most values in common with it; if none has a single nearest, with the best. Empty:
            the best configuration with one expert or, if there is none, the best one.
    """
    all_of, names = measured_configurations(table), compared_metrics(table, metrics)
    if len(all_of) < 2 or not names or all(len(each.by_seed) < 2 for each in all_of):
        return []
    directed = [name for name in (*names, *compared_metrics(table, None)) if result_key(name).better is not None]
    pairs = _counterparts(all_of, baseline) if baseline else []
    if pairs:
        given = ", ".join(f"{key}={value}" for key, value in baseline.items())
        title = f"configurations with {given}"
        others = sum(not matches(each, baseline) for each in all_of) - len(pairs)
        why = "Reference of each configuration: the one of these that has the most values in common with it." + (
            f" Left out, because several are equally near: {others}." if others else ""
        )
    else:
        reference, why = _reference(all_of, directed[:1], baseline)
        title = reference.name if reference else ""
        pairs = [(each, reference) for each in all_of if reference and each is not reference]
    found = [_differences(pairs, names, title, why), _effects(all_of, names)]
    return [each for each in found if each]


def matches(configuration: Configuration, baseline: Mapping[str, str]) -> bool:
    """Return whether a configuration has these values; numbers may be written differently."""
    values = next(iter(configuration.by_seed.values())).job.values
    return all(_number_or_text(values.get(key)) == _number_or_text(value) for key, value in baseline.items())


def _counterparts(
    all_of: Sequence[Configuration], baseline: Mapping[str, str]
) -> list[tuple[Configuration, Configuration]]:
    """Return each configuration with the one that has the values of the baseline and otherwise most of its own.

    Configurations for which several are equally near are left out. The list is empty if only one configuration has the
    values of the baseline.
    """
    candidates = [each for each in all_of if matches(each, baseline)]
    if len(candidates) < 2:
        return []
    pairs = []
    for each in all_of:
        if each in candidates:
            continue
        common = [sum(each.keys[key] == other.keys[key] for key in each.keys) for other in candidates]
        if common.count(max(common)) == 1:
            pairs.append((each, candidates[common.index(max(common))]))
    return pairs


def _reference(
    all_of: Sequence[Configuration], metrics: Sequence[str], baseline: Mapping[str, str]
) -> tuple[Configuration | None, str]:
    """Return the reference, or None if there is none, and why.

    Args:
        all_of: the configurations of a group.
        metrics: the one that decides which configuration is best, if there is one.
        baseline: see `statistics_tables`.
    """
    single = [each for each in all_of if {run.k for run in each.by_seed.values()} == {"1"}]
    candidates = [each for each in all_of if matches(each, baseline)] if baseline else single or list(all_of)
    given = ", ".join(f"{key}={value}" for key, value in baseline.items()) or ("one expert" if single else "")
    if not candidates:
        return None, f"No paired differences: no configuration of this group has {given}."
    if len(candidates) == 1:
        return candidates[0], f"Reference: {candidates[0].name}" + (f" ({given})." if single and not baseline else ".")
    if not metrics:
        return None, f"No paired differences: no metric ranks the runs. {NAME_ONE}"
    metric = metrics[0]
    measured = [each for each in candidates if each.values(metric)] or candidates
    best = min(measured, key=lambda each: each.rank_values(metric).mean() if each.values(metric) else math.inf)
    among = f"{len(candidates)} configurations{f' with {given}' if given else ''}"
    return best, (
        f"Reference: {best.name}, the best of {among} by {metric} (best: {best_value(metric)}). It was chosen by its "
        f"results, so the others look worse next to it than they are. {NAME_ONE}"
    )


def _differences(
    pairs: Sequence[tuple[Configuration, Configuration]], metrics: Sequence[str], title: str, why: str
) -> StatisticsTable | None:
    """Return the table of the differences of pairs: a configuration and its reference, which the title names."""
    if not title:
        return StatisticsTable("differences", PageTable("Paired differences", [], [why]), [], [])
    several = len({id(reference) for _, reference in pairs}) > 1
    exact: list[dict[str, Any]] = []
    estimates = []
    for metric in metrics:
        for each, reference in pairs:
            ours, theirs = each.values(metric), reference.values(metric)
            if not ours:
                continue
            common = [seed for seed in ours if seed in theirs]
            estimate = mean_estimate(np.array([ours[seed] - theirs[seed] for seed in common]))
            estimates.append(estimate)
            unpaired = len(ours) + len(theirs) - 2 * len(common)
            exact.append(
                {"metric": metric, **each.keys, **({"reference": reference.name} if several else {}),
                 "difference": estimate.value, "low": estimate.low,
                 "high": estimate.high, "n": len(common), "p": estimate.p, "p_holm": None, "unpaired_seeds": unpaired}
            )  # fmt: skip
    if not exact:
        return None
    for row, corrected in zip(exact, holm([estimate.p for estimate in estimates]), strict=True):
        row["p_holm"] = corrected
    formatted = [
        {"metric": row["metric"], **{key: row[key] for key in pairs[0][0].keys},
         **({"reference": row["reference"]} if several else {}), "difference": value,
         INTERVAL: interval, "n": row["n"], "p": _p(row["p"]), HOLM: _p(row["p_holm"]),
         "seeds left out": row["unpaired_seeds"], "remark": _why_no_interval(estimate)}
        for row, estimate in zip(exact, estimates, strict=True)
        for value, interval in [_value_and_interval(estimate)]
    ]  # fmt: skip
    tested = sum(estimate.p is not None for estimate in estimates)
    remarks = [
        why,
        *_best_values(metrics),
        f"{HOLM}: corrected over the {tested} tests of this table. n: seeds that both sides have.",
    ]
    page = _page(f"Differences from {title}, paired by seed", formatted, remarks)
    return StatisticsTable("differences", page, exact, formatted)


def _effects(all_of: Sequence[Configuration], metrics: Sequence[str]) -> StatisticsTable | None:
    exact: list[Row] = []
    formatted: list[Row] = []
    remarks: dict[str, None] = {}  # each once
    for metric in metrics:
        factors, seeds, values_N, left_out = _factors(all_of, metric)
        remarks |= dict.fromkeys(left_out)
        if not factors:
            continue
        block = {"seed": seeds}
        for key, effects in main_effects(factors, values_N, block).items():
            confounded = confounders({**factors, **block}, key)
            for effect in sorted(effects, key=lambda effect: _number_or_text(effect.level)):
                estimate = effect.estimate or Estimate(None, effect.n)
                compared = " / ".join(effect.compared) if len(effect.compared) < len(effects) else "all"
                exact.append(
                    {"metric": metric, "key": key, "value": effect.level, "effect": estimate.value,
                     "low": estimate.low, "high": estimate.high, "n": effect.n, "compared_with": compared,
                     "confounded_with": ", ".join(confounded)}
                )  # fmt: skip
                value, interval = _value_and_interval(estimate)
                formatted.append(
                    {"metric": metric, "key": key, "value": effect.level, "effect": value,
                     INTERVAL: interval, "n": effect.n, "remark": _limits(effect, compared, confounded)}
                )  # fmt: skip
    if not exact and not remarks:
        return None
    model = (
        "Least squares with additive effects of these keys, and of the seed as a block. An effect that depends on "
        "another key counts as residual, which widens the intervals. n: runs with this value."
    )
    return StatisticsTable("effects", _page("Main effects", formatted, [model, *remarks]), exact, formatted)


def _factors(
    all_of: Sequence[Configuration], metric: str
) -> tuple[dict[str, list[str]], list[str], np.ndarray, list[str]]:
    """Return the levels of each run by key, its seed and its value, and remarks on keys that are left out."""
    runs = [(each.keys, f"{seed}", value) for each in all_of for seed, value in each.values(metric).items()]
    levels = {key: [MISSING if keys[key] is None else f"{keys[key]}" for keys, *_ in runs] for key in all_of[0].keys}
    joined = joined_factors(levels)
    factors = {name: of for name, of in joined.items() if len(set(of)) <= MAX_LEVELS}
    left_out = [f"{name}: left out, as it has more than {MAX_LEVELS} values." for name in joined if name not in factors]
    if len(factors) > MAX_FACTORS:
        left_out = [f"No main effects: more than {MAX_FACTORS} keys vary."]
        factors = {}
    return factors, [seed for _, seed, _ in runs], np.array([value for *_, value in runs]), left_out


def _page(title: str, rows: Sequence[Row], remarks: Sequence[str]) -> PageTable:
    varying, constants = without_constants(rows)
    more = [f"{len(rows) - MAX_ROWS} more rows are in the files."] if len(rows) > MAX_ROWS else []
    return PageTable(title, varying[:MAX_ROWS], [*remarks, *more], len(rows) > MAX_OPEN, constants)


def _value_and_interval(estimate: Estimate) -> tuple[str | None, str | None]:
    """Return an estimate and its interval with the digits that the interval's width allows."""
    if estimate.value is None:
        return None, None
    value = mean_and_sd(estimate.value, estimate.half).partition(" ±")[0]
    if estimate.half is None:
        return value, None
    form = ".2g" if "e" in value else f".{len(value.partition('.')[2])}f"
    return value, f"{estimate.low:{form}} to {estimate.high:{form}}"


def _best_values(metrics: Sequence[str]) -> list[str]:
    """Return a remark on the best value of each metric that has one."""
    directed = [f"{metric} {best_value(metric)}" for metric in metrics if result_key(metric).better is not None]
    return [f"Best values: {', '.join(directed)}."] if directed else []


def _p(p: float | None) -> str | None:
    return None if p is None else f"{p:.2g}"


def _why_no_interval(estimate: Estimate) -> str | None:
    """Return why a mean difference has no interval."""
    if estimate.half is not None:
        return None
    return "no interval: fewer than 2 common seeds" if estimate.n < 2 else "no interval: equal for all seeds"


def _limits(effect: Effect, compared: str, confounded: Sequence[str]) -> str | None:
    """Return what an effect does not compare, and why."""
    why = f"confounded with {' and with '.join(confounded)}" if confounded else "confounded with several keys together"
    if effect.estimate is None:
        return f"no effect: {why}"
    if compared != "all":
        return f"compared with {compared} only: {why}"
    return None if effect.estimate.half is not None else "no interval: no residuals"


def _number_or_text(value: Any) -> tuple[float, str]:
    """Return a key that sorts numbers by size and before texts, and is equal for equal numbers."""
    with suppress(TypeError, ValueError):
        return float(value), ""
    return math.inf, f"{value}"
