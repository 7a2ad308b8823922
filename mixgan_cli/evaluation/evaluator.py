"""Measures samples against a reference set: every metric or the reason why it is unavailable, and the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import DataError, Unavailable, UserError
from mixgan_cli.evaluation.comparison import Comparison, FeatureStore, Layers
from mixgan_cli.evaluation.extractors import check_extractor
from mixgan_cli.evaluation.metrics.base import Metric
from mixgan_cli.evaluation.metrics.registry import find_metrics, result_key
from mixgan_cli.evaluation.protocol import protocol_of
from mixgan_cli.evaluation.reference import ReferenceSet
from mixgan_cli.models.networks import Discriminator
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.device import full_float32


@dataclass(frozen=True)
class Result:
    """Metrics with their protocol, and the reasons for those that are unavailable."""

    protocol: Mapping[str, Any]
    metrics: dict[str, Any]
    unavailable: Mapping[str, str]


def check_settings(settings: Evaluation) -> None:
    """Check the names of metrics and extractors, before hours of training.

    Raises:
        ConfigError: there is no such metric or extractor.
    """
    for extractor in settings.extractors:
        check_extractor(extractor)
    find_metrics([*settings.metrics, *settings.cheaper().metrics])


@dataclass(frozen=True)
class Evaluator:
    """Measures by one protocol against one reference set.

    Raises:
        ConfigError: there is no such metric or extractor.
    """

    settings: Evaluation
    reference: ReferenceSet
    device: torch.device

    def __post_init__(self) -> None:
        check_settings(self.settings)

    @property
    def n_fake(self) -> int:
        """Number of generated samples: `evaluation.n_fake`, or as many as there are real ones."""
        return self.settings.n_fake or len(self.reference.samples)

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics of the protocol."""
        return find_metrics(self.settings.metrics)

    @cached_property
    def store(self) -> FeatureStore:
        """The features that these metrics use."""
        layers = {}
        for extractor in self.settings.extractors:
            layers[extractor] = Layers()
            for metric in self.metrics:
                layers[extractor] = layers[extractor].union(metric.needs(extractor, self.settings))
        return FeatureStore(self.settings, layers, self.reference, self.device)

    def evaluate(self, sampler: Sampler, discriminator: Discriminator | None = None, seed: int | None = None) -> Result:
        """Measure a generator.

        Args:
            sampler: draws n_fake samples.
            discriminator: of the same run; some metrics of mixtures use its classifier of experts.
            seed: of the latents; None: the protocol's.

        Returns:
            Metrics of one draw of latents; or, if the protocol has several seeds, their means over seed, seed + 1, …,
            with the standard deviation as NAME_sd.
        """
        first = self.settings.seed if seed is None else seed
        seeds = range(first, first + self.settings.seeds)
        return _mean([self._evaluate_once(sampler, discriminator, number) for number in seeds])

    def interim(self) -> Evaluator:
        """Return the evaluator for use during training (`evaluation.interim`): fewer metrics and samples."""
        if self.settings.interim is None:
            return self
        settings = self.settings.cheaper()
        return Evaluator(settings, self.reference.first(self.settings.interim.n_real), self.device)

    def _evaluate_once(self, sampler: Sampler, discriminator: Discriminator | None, seed: int) -> Result:
        fakes = sampler.draw(self.n_fake, seed, norm_batch=self.settings.norm_batch)
        notes: dict[str, Any] = {"sample_seeds": [seed], "ema": self.settings.ema}
        if self.settings.norm_batch:  # null is not recorded, so that results older than the key stay comparable
            notes["norm_batch"] = self.settings.norm_batch
        gate = sampler.generator.gate
        with torch.no_grad():
            prior_K = gate.expert_prior()
        return self.measure(fakes.samples, notes, fakes.weights_BK, discriminator, gate.hierarchical, prior_K)

    def measure(
        self,
        fakes: Tensor,
        notes: Mapping[str, Any],
        weights_BK: Tensor | None = None,
        discriminator: Discriminator | None = None,
        hierarchical: bool = False,
        prior_K: Tensor | None = None,
    ) -> Result:
        """Measure samples, in random order: images uint8 [N, C, H, W] or points [N, D].

        Args:
            fakes: the samples; the first n_fake of them are used.
            notes: what the protocol records of them.
            weights_BK: the gate's weights, if they come from a mixture.
            discriminator: of that mixture.
            hierarchical: True if that mixture is a binary tree, its leaves from left to right.
            prior_K: the distribution of experts [K] that its gate learned, if it does not depend on the latent.

        Raises:
            DataError: points are to be compared with images.
        """
        if fakes.dim() != self.reference.samples.dim():
            kinds = {2: "points", 4: "images"}
            fake, real = (kinds[samples.dim()] for samples in (fakes, self.reference.samples))
            raise DataError(f"{fake} cannot be compared with {real}")
        fakes = fakes[: self.n_fake]
        weights_BK = None if weights_BK is None else weights_BK[: self.n_fake]
        comparison = Comparison(
            self.settings,
            fakes,
            self.reference,
            self.store,
            self.device,
            weights_BK,
            discriminator,
            hierarchical,
            prior_K,
        )
        metrics: dict[str, Any] = {}
        unavailable: dict[str, str] = {}
        with full_float32():
            for metric in (each for each in self.metrics if each.applies(comparison)):
                for extractor in metric.extractors(comparison):
                    values, reasons = _compute(metric, comparison, extractor)
                    metrics |= values
                    unavailable |= reasons
        notes = {**notes, **comparison.notes}
        protocol = protocol_of(self.settings, len(fakes), len(comparison.real), notes, self.reference.description)
        return Result(protocol, metrics, unavailable)


def _compute(metric: Metric, comparison: Comparison, extractor: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of a metric, and the reasons for those that are missing, both by name."""
    names = metric.keys(extractor, comparison.settings.feature_layer)
    try:
        metric.check(comparison)
        computed = metric.compute(comparison, extractor)
        values = {names[key]: np.asarray(value).tolist() for key, value in computed.items()}  # for JSON
    except Unavailable as error:
        return {}, dict.fromkeys(_main(metric, names), str(error))
    except UserError:
        raise
    except Exception as error:  # too few samples, for example: one metric must not cost the others, or the run
        return {}, dict.fromkeys(_main(metric, names), f"cannot be computed ({type(error).__name__}: {error})")
    finite = {name: value for name, value in values.items() if np.isfinite(value).all()}
    return finite, dict.fromkeys(values.keys() - finite.keys(), "its value is not finite")


def _main(metric: Metric, names: Mapping[str, str]) -> Iterable[str]:
    """Return the names whose absence is explained: not those that only accompany another."""
    return [name for key, name in names.items() if metric.results[key].role in ("value", "variant")]


def _mean(results: Sequence[Result]) -> Result:
    """Return means and standard deviations of results of several draws under one protocol."""
    if len(results) == 1:
        return results[0]
    metrics: dict[str, Any] = {}
    for name in results[0].metrics:
        values = np.array([result.metrics[name] for result in results if name in result.metrics], dtype=float)
        metrics[name] = values.mean(axis=0).tolist()
        if values.ndim == 1 and result_key(name).role in ("value", "variant"):
            metrics[f"{name}_sd"] = float(values.std(ddof=1))
    seeds = [seed for result in results for seed in result.protocol["sample_seeds"]]
    unavailable = {name: reason for result in results for name, reason in result.unavailable.items()}
    return Result({**results[0].protocol, "sample_seeds": seeds}, metrics, unavailable)
