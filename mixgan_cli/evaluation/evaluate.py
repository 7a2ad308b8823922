"""Measures samples against reals: every wanted metric, or the reason why not, and the protocol of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixgan_cli.config import Evaluation
from mixgan_cli.data.pixels import to_float
from mixgan_cli.errors import DataError, UserError
from mixgan_cli.evaluation import fidelity, mixture, plane
from mixgan_cli.evaluation.modes import modes
from mixgan_cli.evaluation.ms_ssim import mean_ms_ssim
from mixgan_cli.evaluation.neighbours import two_sample_test
from mixgan_cli.evaluation.unavailable import Unavailable
from mixgan_cli.models.discriminator import Discriminator
from mixgan_cli.models.peek import peek
from mixgan_cli.models.sampler import BLOCK, Sampler
from mixgan_cli.objectives.diversity import jsd

Metrics = dict[str, Any]


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


@dataclass(frozen=True)
class Result:
    """Metrics with their protocol, and the reasons for those that are unavailable."""

    protocol: Mapping[str, Any]
    metrics: Metrics
    unavailable: Mapping[str, str]


@dataclass(frozen=True)
class Evaluator:
    """One protocol against one set of reals. The reals' features are computed once."""

    evaluation: Evaluation
    reals: Reals
    device: torch.device

    def of(self, sampler: Sampler, discriminator: Discriminator | None = None, seed: int | None = None) -> Result:
        """Measure a generator by n_fake samples drawn with the protocol's seed, or another.

        The discriminator, where it classifies experts, says how far apart they are.
        """
        seed = self.evaluation.seed if seed is None else seed
        fakes = sampler.draw(self.evaluation.n_fake, seed)
        about = {"sample_seed": seed, "ema": self.evaluation.ema}
        return self.measure(fakes.samples, about, fakes.weights_BK, discriminator)

    def measure(
        self,
        fakes: Tensor,
        about: Mapping[str, Any],
        weights_BK: Tensor | None = None,
        discriminator: Discriminator | None = None,
    ) -> Result:
        """Measure samples, in random order, as they are: images uint8 [N, C, H, W] or points [N, D].

        Args:
            fakes: at most n_fake of them are taken.
            about: what the protocol is to say of them.
            weights_BK: the gate's weights, where they come from a mixture.
            discriminator: of that mixture.
        """
        if fakes.dim() != self.reals.samples.dim():
            kinds = {2: "points", 4: "images"}
            fake, real = (kinds[samples.dim()] for samples in (fakes, self.reals.samples))
            raise DataError(f"{fake} cannot be compared with {real}")
        comparison = _Comparison(self, fakes[: self.evaluation.n_fake], weights_BK, discriminator)
        metrics: Metrics = {}
        unavailable: dict[str, str] = {}
        for name in self.evaluation.metrics:
            for metric in METRICS[name]:
                try:
                    computed = metric(comparison)
                except Unavailable as error:
                    unavailable |= dict.fromkeys(error.names, error.reason)
                    continue
                except UserError:
                    raise
                except Exception as error:  # too few samples, say: one metric must not cost the others, or the run
                    unavailable[name] = f"cannot be computed ({type(error).__name__}: {error})"
                    continue
                finite = {name: value for name, value in computed.items() if np.isfinite(value).all()}
                metrics |= finite
                unavailable |= dict.fromkeys(computed.keys() - finite.keys(), "its value is not finite")
        protocol = {
            "n_fake": len(comparison.fake),
            "n_real": len(comparison.real),
            "precision": "float32",
            **self.evaluation.model_dump(mode="json", include=_TOLD),
            **about,
            **comparison.notes,
            "reals": dict(self.reals.about),
        }
        return Result(protocol, metrics, unavailable)

    @cached_property
    def extractor(self) -> fidelity.Extractor:
        """The network for every metric that looks at features."""
        logits = fidelity.logits_layer(self.evaluation.extractor)
        in_features = self._wants("fid", "kid", "prc") or self._knn_in_features
        layers = [self.evaluation.feature_layer] if in_features else []
        return fidelity.Extractor(
            self.evaluation, [*layers, logits] if self._wants("inception_score") else layers, self.device
        )

    @cached_property
    def real_features(self) -> dict[str, Tensor]:
        """The reals' features by layer."""
        return self.extractor(self.reals.samples, "features of real images")

    def _wants(self, *metrics: str) -> bool:
        return bool(set(metrics) & set(self.evaluation.metrics))

    @property
    def _knn_in_features(self) -> bool:
        return self._wants("knn") and self.evaluation.neighbour_features == "inception"


_TOLD = {"splits", "neighbours", "neighbour_features", "ms_ssim_pairing", "feature_layer", "seed"}


@dataclass
class _Comparison:
    """Fakes and reals, and what is computed of them once for several metrics."""

    evaluator: Evaluator
    fake: Tensor
    weights_BK: Tensor | None
    discriminator: Discriminator | None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def real(self) -> Tensor:
        return self.evaluator.reals.samples

    @property
    def evaluation(self) -> Evaluation:
        return self.evaluator.evaluation

    @cached_property
    def fake_features(self) -> dict[str, Tensor]:
        self.notes |= self.evaluator.extractor.describe()
        return self.evaluator.extractor(self.fake, "features of generated images")

    def features(self, layer: str, *names: str) -> tuple[Tensor, Tensor]:
        """Return (fake, real) features; or say for these metrics why there are none."""
        self.need_layer(layer, *names)
        return self.fake_features[layer], self.evaluator.real_features[layer]

    def need_layer(self, layer: str, *names: str) -> None:
        self.need_images(*names)
        missing = self.evaluator.extractor.missing
        if layer in missing:
            raise Unavailable(missing[layer], *names)

    def need_images(self, *names: str) -> None:
        if self.fake.dim() != 4:
            raise Unavailable("is for images; for points take evaluation=points", *names)

    @property
    def suffix(self) -> str:
        """What distinguishes a metric's name: another extractor than Inception, another layer than 2048."""
        evaluation = self.evaluation
        if evaluation.extractor != fidelity.INCEPTION:
            return f"_{evaluation.extractor}"
        return "" if evaluation.feature_layer == fidelity.STANDARD_LAYER else f"_{evaluation.feature_layer}"


def _fid(of: _Comparison) -> Metrics:
    name = f"fid{of.suffix}"
    return {name: fidelity.fid(*of.features(of.evaluation.feature_layer, name))}


def _kid(of: _Comparison) -> Metrics:
    name = f"kid{of.suffix}"
    mean, std = fidelity.kid(*of.features(of.evaluation.feature_layer, name), of.evaluation.seed)
    return {name: mean, f"{name}_std": std}


def _prc(of: _Comparison) -> Metrics:
    names = f"precision{of.suffix}", f"recall{of.suffix}"
    return dict(zip(names, fidelity.precision_recall(*of.features(of.evaluation.feature_layer, *names)), strict=True))


def _inception_score(of: _Comparison) -> Metrics:
    own = of.evaluation.extractor == fidelity.INCEPTION
    name = "inception_score" if own else f"inception_score_{of.evaluation.extractor}"
    layer = fidelity.logits_layer(of.evaluation.extractor)
    of.need_layer(layer, name)  # of the fakes alone: where nothing else looks at features, the reals are not passed
    if len(of.fake) < of.evaluation.splits:
        raise Unavailable(f"{of.evaluation.splits} splits of {len(of.fake)} images: raise evaluation.n_fake", name)
    mean, std = fidelity.inception_score(of.fake_features[layer], of.evaluation.splits, of.evaluation.seed)
    return {name: mean, f"{name}_std": std}


def _ms_ssim(of: _Comparison) -> Metrics:
    of.need_images("ms_ssim")
    pairing, device = of.evaluation.ms_ssim_pairing, of.evaluator.device
    value, pairs = mean_ms_ssim(of.fake, pairing, device)
    value_of_reals, _ = mean_ms_ssim(of.real, pairing, device)
    of.notes["ms_ssim_pairs"] = pairs
    return {"ms_ssim": value, "ms_ssim_real": value_of_reals}


def _knn(of: _Comparison) -> Metrics:
    in_features = of.fake.dim() == 4 and of.evaluation.neighbour_features == "inception"
    names = tuple(f"{name}{of.suffix if in_features else ''}" for name in ("knn_fake", "knn_real"))
    if not in_features:
        if of.fake.shape[1:] != of.real.shape[1:]:
            shapes = f"{list(of.fake.shape[1:])} and {list(of.real.shape[1:])}"
            raise Unavailable(f"pixels of images of different shapes, {shapes}, have no distance", *names)
        fake, real = of.fake.flatten(1).float(), of.real.flatten(1).float()
    else:
        fake, real = of.features(of.evaluation.feature_layer, *names)
    n = min(len(fake), len(real))  # as many of either kind, or one half each would not be the ideal
    of.notes["neighbour_test_n"] = n
    fake, real = fake[:n].to(of.evaluator.device), real[:n].to(of.evaluator.device)
    shares = two_sample_test(fake, real, of.evaluation.neighbours)
    return dict(zip(names, shares, strict=True))


def _usage(of: _Comparison) -> Metrics:
    if of.weights_BK is None:
        raise Unavailable("these images do not come from a mixture", "gate_entropy", "expert_usage")
    return {
        "gate_entropy": mixture.gate_entropy(of.weights_BK),
        "expert_usage": mixture.expert_usage(of.weights_BK),
    }


def _jsd_experts(of: _Comparison) -> Metrics:
    if of.weights_BK is None or of.discriminator is None:
        raise Unavailable("is estimated by the classifier of experts in a run's discriminator", "jsd_experts")
    head = of.discriminator.head
    if not head.classifies_experts or head.form != "general":
        raise Unavailable(
            "is estimated by a softmax over experts (model/head=classifier with form=general, or multiclass); this "
            "model's head has none",
            "jsd_experts",
        )
    as_input = to_float if of.fake.dim() == 4 else Tensor.float
    answers = [peek(of.discriminator, as_input(fakes.to(of.evaluator.device))) for fakes in of.fake.split(BLOCK)]
    logits_BK = torch.cat([answer.experts_NL.double().cpu() for answer in answers])
    return {"jsd_experts": jsd(logits_BK, of.weights_BK[: len(of.fake)].double()).item()}


def _modes(of: _Comparison) -> Metrics:
    if of.evaluator.reals.gaussians is None:
        raise Unavailable("is for data that are a mixture of Gaussians", "modes_covered", "high_quality")
    covered, share = modes(of.fake, *of.evaluator.reals.gaussians)
    return {"modes_covered": covered, "high_quality": share}


def _symmetric_kl(of: _Comparison) -> Metrics:
    return _by_histograms(of, "symmetric_kl", plane.symmetric_kl)


def _wasserstein(of: _Comparison) -> Metrics:
    return _by_histograms(of, "wasserstein", plane.wasserstein)


def _by_histograms(of: _Comparison, name: str, distance: Callable[[Tensor, Tensor, float], float]) -> Metrics:
    reals = of.evaluator.reals
    if reals.window is None:
        raise Unavailable("is for points in the plane whose data say in which window", name)
    of.notes["histograms"] = {"window": reals.window, "bins": plane.BINS, "eps": plane.EPS}
    values = {name: distance(of.fake, of.real, reals.window)}
    return values if reals.again is None else values | {f"{name}_real": distance(reals.again, of.real, reals.window)}


METRICS: Mapping[str, tuple[Callable[[_Comparison], Metrics], ...]] = {
    "fid": (_fid,),
    "inception_score": (_inception_score,),
    "kid": (_kid,),
    "prc": (_prc,),
    "ms_ssim": (_ms_ssim,),
    "knn": (_knn,),
    "mixture": (_usage, _jsd_experts),
    "modes": (_modes,),
    "plane": (_symmetric_kl, _wasserstein),
}


RANKED_BY = ("fid", "inception_score", "kid", "symmetric_kl", "high_quality", "knn_fake", "precision", "ms_ssim")
"""Metrics by which states of a run are compared: the first that was computed counts."""
HIGHER_IS_BETTER = ("inception_score", "high_quality", "precision")


def deciding(metrics: Metrics) -> tuple[str, float, float] | None:
    """Return (metric, its value, its badness) of the metric that decides which state is best; or None without one.

    Badness is lower for better states: the value, its negative, or its distance from the ideal.
    """
    for kind in RANKED_BY:
        for name in sorted(metrics):
            if not name.endswith(("_std", "_real")) and (name == kind or name.startswith(f"{kind}_")):
                return name, metrics[name], _badness(kind, name, metrics)
    return None


def _badness(kind: str, name: str, metrics: Metrics) -> float:
    value = metrics[name]
    if kind == "knn_fake":  # half of a sample's neighbours should be fake, be it fake or real
        return abs(value - 0.5) + abs(metrics[name.replace("fake", "real")] - 0.5)
    if kind == "ms_ssim":  # as diverse as real images
        return abs(value - metrics["ms_ssim_real"])
    return -value if kind in HIGHER_IS_BETTER else value
