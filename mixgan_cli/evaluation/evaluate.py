"""Measures samples against reals: every wanted metric, or the reason why not, and the protocol of them all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import DataError, Unavailable, UserError
from mixgan_cli.evaluation.classifier import Labelled
from mixgan_cli.evaluation.comparison import Comparison, Metrics
from mixgan_cli.evaluation.extractors import Extractor, Features, check_extractor, finder, gives, layer_for
from mixgan_cli.evaluation.metrics import FIGURES, METRICS
from mixgan_cli.evaluation.protocol import protocol_of
from mixgan_cli.evaluation.reference import of_reals
from mixgan_cli.models.networks import Discriminator
from mixgan_cli.models.sampler import Sampler

log = logging.getLogger("mixgan")


@dataclass(frozen=True)
class Reals:
    """What generated samples are compared with: images uint8 [N, C, H, W] or points [N, D], and their description."""

    samples: Tensor
    about: Mapping[str, Any]
    gaussians: tuple[Tensor, Tensor] | None = None
    """Means [M, 2] and standard deviations [M], where the reals are such a mixture."""
    window: float | None = None
    """Half the side of the square about the origin in which histograms of points are taken."""
    again: Tensor | None = None
    """As many reals again, independent of the others: points [N, 2]. A perfect generator scores what they do."""
    labelled: Labelled | None = None
    """The set they come from, for a classifier of its images; None without labels."""


@dataclass(frozen=True)
class Result:
    """Metrics with their protocol, and the reasons for those that are unavailable."""

    protocol: Mapping[str, Any]
    metrics: Metrics
    unavailable: Mapping[str, str]


@dataclass(frozen=True)
class Evaluator:
    """One protocol against one set of reals. Each extractor sees the reals once, or never if the cache has them."""

    evaluation: Evaluation
    reals: Reals
    device: torch.device
    _seen: dict[str, Features] = field(default_factory=dict)
    """The reals' features, by extractor."""

    def __post_init__(self) -> None:
        for extractor in self.evaluation.extractors:
            check_extractor(extractor)

    @property
    def n_fake(self) -> int:
        """Number of generated samples to measure: the protocol's, or as many as there are reals."""
        return self.evaluation.n_fake or len(self.reals.samples)

    def of(self, sampler: Sampler, discriminator: Discriminator | None = None, seed: int | None = None) -> Result:
        """Measure a generator by n_fake samples drawn with the protocol's seed, or another.

        Where the protocol has several seeds, metrics are means over seed, seed + 1, …, and NAME_sd their deviation.
        The discriminator, where it classifies experts, says how far apart they are.
        """
        first = self.evaluation.seed if seed is None else seed
        seeds = range(first, first + self.evaluation.seeds)
        return _averaged([self._once(sampler, discriminator, number) for number in seeds])

    def during(self) -> Evaluator:
        """Return what measures on the way: the same reals, fewer of them, and fewer metrics."""
        if self.evaluation.during is None:
            return self
        cheaper = self.evaluation.cheaper()
        again = None if self.reals.again is None else self.reals.again[: cheaper.n_real]
        reals = replace(self.reals, samples=self.reals.samples[: cheaper.n_real], again=again)
        return Evaluator(cheaper, reals, self.device)

    def _once(self, sampler: Sampler, discriminator: Discriminator | None, seed: int) -> Result:
        fakes = sampler.draw(self.n_fake, seed)
        about = {"sample_seeds": [seed], "ema": self.evaluation.ema}
        hierarchical = sampler.generator.gate.hierarchical
        return self.measure(fakes.samples, about, fakes.weights_BK, discriminator, hierarchical)

    def measure(
        self,
        fakes: Tensor,
        about: Mapping[str, Any],
        weights_BK: Tensor | None = None,
        discriminator: Discriminator | None = None,
        hierarchical: bool = False,
    ) -> Result:
        """Measure samples, in random order, as they are: images uint8 [N, C, H, W] or points [N, D].

        Args:
            fakes: at most n_fake of them are taken.
            about: what the protocol is to say of them.
            weights_BK: the gate's weights, where they come from a mixture.
            discriminator: of that mixture.
            hierarchical: whether that mixture is a binary tree, its leaves from left to right.

        Raises:
            DataError: points are to be compared with images.
        """
        if fakes.dim() != self.reals.samples.dim():
            kinds = {2: "points", 4: "images"}
            fake, real = (kinds[samples.dim()] for samples in (fakes, self.reals.samples))
            raise DataError(f"{fake} cannot be compared with {real}")
        weights = None if weights_BK is None else weights_BK[: self.n_fake]
        comparison = Comparison(self, fakes[: self.n_fake], weights, discriminator, hierarchical)
        metrics: Metrics = {}
        unavailable: dict[str, str] = {}
        for name in self.evaluation.metrics:
            for metric in METRICS[name]:
                for extractor in self._for(metric.by):
                    computed, missing = _computed(name, metric.compute, comparison, extractor)
                    metrics |= computed
                    unavailable |= missing
        protocol = protocol_of(self.evaluation, comparison, about, self.reals.about)
        return Result(protocol, metrics, unavailable)

    def _for(self, kind: str | None) -> Sequence[str | None]:
        """Return the extractors by which a kind of metric is computed; for one that needs none, one nothing."""
        if kind is None:
            return (None,)
        return [extractor for extractor in self.evaluation.extractors if gives(kind, extractor)]

    @cached_property
    def extractors(self) -> dict[str, Extractor]:
        """The networks of the protocol, each with the layers that some metric looks at."""
        evaluation = self.evaluation
        return {
            name: Extractor(
                name,
                tuple({**dict.fromkeys(self._averaged(name)), **dict.fromkeys(self.kept(name, of_fakes=True))}),
                finder(name, evaluation, self.reals.labelled, self.device),
                evaluation.batch,
                self.device,
                evaluation.precision,
            )
            for name in evaluation.extractors
        }

    def features(self, name: str, images: Tensor) -> Features:
        """Return what an extractor finds in generated images uint8 [N, C, H, W], in one pass."""
        title = f"{name}: features of generated images"
        return self.extractors[name](images, title, self._averaged(name), self.kept(name, of_fakes=True))

    def real_features(self, name: str) -> Features:
        """Return what an extractor finds in the reals, from the cache where they were looked at before."""
        if name not in self._seen:
            averaged, kept = self._averaged(name), self.kept(name, of_fakes=False)
            self._seen[name] = of_reals(self.extractors[name], self.reals.samples, averaged, kept)
        return self._seen[name]

    def _averaged(self, name: str) -> Collection[str]:
        """The layers whose moments are enough."""
        return {layer_for("fid", name, self.evaluation.feature_layer)} if self._wants("fid") else set()

    def kept(self, name: str, of_fakes: bool) -> Collection[str]:
        """The layers that are kept whole: of the fakes all that some metric looks at, of the reals no logits."""
        evaluation = self.evaluation
        layers = set()
        if self._wants("kid", "prc") or (
            self._wants("knn") and evaluation.neighbour_features == "features" and name == evaluation.extractors[0]
        ):
            layers.add(layer_for("fid", name, evaluation.feature_layer))
        if of_fakes and self._wants("experts"):
            layers.add(layer_for("fid", name, evaluation.feature_layer))
        if of_fakes and self._wants("inception_score", "classes") and gives("isc", name):
            layers.add(layer_for("isc", name, evaluation.feature_layer))
        return layers

    def _wants(self, *metrics: str) -> bool:
        return bool(set(metrics) & set(self.evaluation.metrics))


def _computed(
    name: str, metric: Callable[[Comparison, Any], Metrics], comparison: Comparison, extractor: str | None
) -> tuple[Metrics, dict[str, str]]:
    """Return a metric's figures, and the reasons for those that are missing."""
    try:
        computed = metric(comparison, extractor)
    except Unavailable as error:
        return {}, dict.fromkeys(error.names, error.reason)
    except UserError:
        raise
    except Exception as error:  # too few samples, say: one metric must not cost the others, or the run
        suffix = "" if extractor is None else comparison.suffix(extractor)
        names = [f"{figure}{suffix}" for figure in FIGURES.get(name, (name,))]
        return {}, dict.fromkeys(names, f"cannot be computed ({type(error).__name__}: {error})")
    finite = {key: value for key, value in computed.items() if np.isfinite(value).all()}
    return finite, dict.fromkeys(computed.keys() - finite.keys(), "its value is not finite")


def _averaged(results: Sequence[Result]) -> Result:
    """Return means and standard deviations of figures measured on several draws, under one protocol."""
    if len(results) == 1:
        return results[0]
    metrics: Metrics = {}
    for name in results[0].metrics:
        values = np.array([result.metrics[name] for result in results if name in result.metrics], dtype=float)
        metrics[name] = values.mean(axis=0).tolist()
        if values.ndim == 1 and not name.endswith(("_real", "_std")):
            metrics[f"{name}_sd"] = float(values.std(ddof=1))
    seeds = [seed for result in results for seed in result.protocol["sample_seeds"]]
    unavailable = {name: reason for result in results for name, reason in result.unavailable.items()}
    return Result({**results[0].protocol, "sample_seeds": seeds}, metrics, unavailable)
