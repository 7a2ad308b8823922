"""All metrics by name, and what is known of a key of results.json: its metric, direction, meaning and role."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.utils import get_class

from mixgan_cli.config.components import TARGET, trust
from mixgan_cli.errors import ConfigError, nearest
from mixgan_cli.evaluation.metrics.base import DEVIATION, STD, Metric, ResultKey, with_suffix
from mixgan_cli.evaluation.metrics.classes import ExpertClasses
from mixgan_cli.evaluation.metrics.fid import FID, FIDByExpert
from mixgan_cli.evaluation.metrics.inception_score import InceptionScore
from mixgan_cli.evaluation.metrics.kid import KID
from mixgan_cli.evaluation.metrics.knn import KNN
from mixgan_cli.evaluation.metrics.mixture import ExpertDivergence, ExpertPrior, ExpertUsage, GateEntropy
from mixgan_cli.evaluation.metrics.ms_ssim import MSSSIM, MSSSIMByExpert
from mixgan_cli.evaluation.metrics.points import Modes, ReverseKL, SymmetricKL, Wasserstein
from mixgan_cli.evaluation.metrics.prc import PrecisionRecall
from mixgan_cli.evaluation.metrics.stacked import StackedModes

CLASSES: Sequence[type[Metric]] = (
    FID, InceptionScore, KID, PrecisionRecall, MSSSIM, KNN, GateEntropy, ExpertUsage, ExpertPrior, ExpertDivergence,
    ExpertClasses, FIDByExpert, MSSSIMByExpert, Modes, ReverseKL, SymmetricKL, Wasserstein, StackedModes,
)  # fmt: skip
"""The metrics of mixgan, in the order of the glossary."""
METRICS: list[Metric] = [metric() for metric in CLASSES]
"""The metrics of mixgan, and those of other packages once they were found."""
SD = "_sd"


class Found(NamedTuple):
    """A key of results.json: the metric that writes it, the metric's own key, and the extractor's suffix."""

    metric: Metric
    key: str
    suffix: str

    @property
    def result(self) -> ResultKey:
        """What is known of the key."""
        return self.metric.results[self.key]


def choices() -> list[str]:
    """Return the names that `evaluation.metrics` takes."""
    return list(dict.fromkeys(metric.name for metric in METRICS if metric.name))


def find_metrics(names: Iterable[str], trusted: Sequence[str] | None = None) -> list[Metric]:
    """Return the metrics of a configuration.

    Args:
        names: choices, or paths of classes (`mine.metrics.Sharpness`), which are imported.
        trusted: packages that such a path may name; None: any, because the user wrote it on the command line.

    Raises:
        ConfigError: there is no such metric, its class cannot be used, or its package is not trusted.
    """
    found: list[Metric] = []
    for name in names:
        found += [_import(name, trusted)] if "." in name else _choice(name)
    return found


def find(key: str) -> Found | None:
    """Return the metric that a key of results.json or metrics.jsonl belongs to, or None if it is not known."""
    key = re.split(r"[/ ]", key, maxsplit=1)[0]  # expert_usage/0, fid (full_interim)
    found = [(len(own), Found(metric, own, suffix)) for metric in METRICS for own, suffix in _matches(key, metric)]
    return max(found, key=lambda each: each[0])[1] if found else None


def result_key(key: str) -> ResultKey:
    """Return what is known of a key of results.json; nothing, if its metric is not known."""
    if found := find(key):
        return found.result
    return DEVIATION if key.endswith(SD) else ResultKey(rank=None)


def is_value(key: str) -> bool:
    """Return True if a key stands for itself: it is neither a deviation, nor of real samples, nor a variant."""
    return result_key(key).role == "value"


def is_deviation(key: str) -> bool:
    """Return True if a key is the deviation of another one."""
    return result_key(key).role == "deviation"


def deviation(key: str, values: Mapping[str, Any]) -> float | None:
    """Return the deviation of a value, over draws of latents or else over splits or subsets; None without one."""
    found = find(key)
    std = with_suffix(f"{found.key}{STD}", found.suffix) if found else f"{key}{STD}"
    return values.get(f"{key}{SD}", values.get(std))


def rank_value(key: str, values: Mapping[str, Any]) -> float:
    """Return a number that is lower for better values of a key that has a direction (`Metric.rank_value`)."""
    found = find(key)
    assert found is not None, key
    return found.metric.rank_value(found.key, found.suffix, values)


def panel_of(key: str) -> str | None:
    """Return the title of the panel of learning curves that a key shares with others, or None."""
    found = find(key)
    return found.metric.panel if found else None


def glossary(keys: Iterable[str]) -> dict[str, str]:
    """Return the meaning of each of these keys that has one, without suffixes, metric by metric."""
    used = {(found.metric, found.key) for key in keys if (found := find(key))}
    return {
        key: result.meaning
        for metric in METRICS
        for key, result in metric.results.items()
        if (metric, key) in used and result.meaning
    }


def _choice(name: str) -> list[Metric]:
    found = [metric for metric in METRICS if metric.name == name]
    if not found:
        raise ConfigError(
            f"evaluation.metrics={name}: there is no such metric.{nearest(name, choices())} Known: "
            f"{', '.join(choices())}; or the path of a class of your own, such as mine.metrics.Sharpness"
        )
    return found


def _import(path: str, trusted: Sequence[str] | None) -> Metric:
    """Return the metric of a class by its path, and make its keys known."""
    if trusted is not None:
        trust({TARGET: path}, trusted)
    try:
        cls = get_class(path)
    except Exception as error:  # whatever its module raises
        raise ConfigError(f"evaluation.metrics={path}: cannot be imported ({error})") from error
    if not issubclass(cls, Metric):
        raise ConfigError(f"evaluation.metrics={path}: is not a subclass of mixgan_cli.evaluation.metrics.Metric")
    known = next((metric for metric in METRICS if type(metric) is cls), None)
    if known is not None:
        return known
    results = getattr(cls, "results", None)
    if not isinstance(results, Mapping) or not all(isinstance(result, ResultKey) for result in results.values()):
        raise ConfigError(f"evaluation.metrics={path}: its `results` must be a dict of keys and ResultKey(…)")
    for key in results:
        if other := find(key):
            raise ConfigError(
                f"evaluation.metrics={path}: its key {key!r} reads like {other.key!r} of "
                f"{type(other.metric).__name__}. Give it another name"
            )
    METRICS.append(cls())
    return METRICS[-1]


def _matches(key: str, metric: Metric) -> Iterable[tuple[str, str]]:
    """Yield the keys of a metric that a key may be, with the suffix it then has."""
    for own in metric.results:
        start, end = (own.removesuffix(STD), STD) if own.endswith(STD) else (own, "")
        suffix = r"(_[\w.-]+)?" if metric.layer is not None else "()"
        match = re.fullmatch(f"{re.escape(start)}{suffix}{end}", key)
        if match and not (match[1] or "").endswith(SD):
            yield own, match[1] or ""
