"""Every metric: what it computes of a comparison, and the names its figures have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixgan_cli.data.images import to_float
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import classifier, fidelity, mixture, plane
from mixgan_cli.evaluation.comparison import Comparison, Metrics
from mixgan_cli.evaluation.extractors import INCEPTION
from mixgan_cli.evaluation.modes import modes
from mixgan_cli.evaluation.moments import Moments, frechet
from mixgan_cli.evaluation.ms_ssim import mean_ms_ssim
from mixgan_cli.evaluation.neighbours import two_sample_test
from mixgan_cli.models.layers import forward_frozen_bn
from mixgan_cli.models.sampler import BLOCK
from mixgan_cli.objectives.diversity import jsd


class Metric(NamedTuple):
    """A function of a comparison and an extractor; `by`: for which of torch-fidelity's metrics it needs a layer."""

    compute: Callable[[Comparison, Any], Metrics]
    by: str | None = None


def _fid(of: Comparison, extractor: str) -> Metrics:
    name = f"fid{of.suffix(extractor)}"
    layer = of.need(extractor, "fid", name)
    return {name: frechet(of.fake_features(extractor).moments[layer], of.real_features(extractor).moments[layer])}


def _kid(of: Comparison, extractor: str) -> Metrics:
    name = f"kid{of.suffix(extractor)}"
    mean, std = fidelity.kid(*of.kept(extractor, name), of.evaluation.seed)
    return {name: mean, f"{name}_std": std}


def _prc(of: Comparison, extractor: str) -> Metrics:
    names = f"precision{of.suffix(extractor)}", f"recall{of.suffix(extractor)}"
    return dict(zip(names, fidelity.precision_recall(*of.kept(extractor, *names)), strict=True))


def _inception_score(of: Comparison, extractor: str) -> Metrics:
    name = {INCEPTION: "inception_score", classifier.NAME: "classifier_score"}.get(
        extractor, f"inception_score_{extractor}"
    )
    layer = of.need(extractor, "isc", name)
    if len(of.fake) < of.evaluation.splits:
        raise Unavailable(f"{of.evaluation.splits} splits of {len(of.fake)} images: raise evaluation.n_fake", name)
    logits = of.fake_features(extractor).kept[layer]
    mean, std = fidelity.inception_score(logits, of.evaluation.splits, of.evaluation.seed)
    return {name: mean, f"{name}_std": std}


def _ms_ssim(of: Comparison, extractor: None) -> Metrics:
    of.need_images("ms_ssim")
    pairing, device = of.evaluation.ms_ssim_pairing, of.evaluator.device
    value, pairs = mean_ms_ssim(of.fake, pairing, device)
    value_of_reals, _ = mean_ms_ssim(of.real, pairing, device)
    of.notes["ms_ssim_pairs"] = pairs
    return {"ms_ssim": value, "ms_ssim_real": value_of_reals}


def _knn(of: Comparison, extractor: None) -> Metrics:
    evaluation = of.evaluation
    if of.fake.dim() == 4 and evaluation.neighbour_features == "features":
        extractor_of_neighbours = evaluation.extractors[0]
        names = tuple(f"{name}{of.suffix(extractor_of_neighbours)}" for name in NEIGHBOURS)
        fake, real = of.kept(extractor_of_neighbours, *names)
    else:
        names = NEIGHBOURS
        if of.fake.shape[1:] != of.real.shape[1:]:
            shapes = f"{list(of.fake.shape[1:])} and {list(of.real.shape[1:])}"
            raise Unavailable(f"pixels of images of different shapes, {shapes}, have no distance", *names)
        fake, real = of.fake.flatten(1).float(), of.real.flatten(1).float()
    n = min(len(fake), len(real))  # as many of either kind, or one half each would not be the ideal
    of.notes["neighbour_test_n"] = n
    fake, real = fake[:n].to(of.evaluator.device), real[:n].to(of.evaluator.device)
    return dict(zip(names, two_sample_test(fake, real, evaluation.neighbours), strict=True))


NEIGHBOURS = ("knn_fake", "knn_real", "knn_fake_majority", "knn_real_majority")


def _usage(of: Comparison, extractor: None) -> Metrics:
    weights_BK = _weights(of, "gate_entropy", "expert_usage")
    return {
        "gate_entropy": mixture.gate_entropy(weights_BK),
        "expert_usage": mixture.expert_usage(weights_BK),
    }


def _jsd_experts(of: Comparison, extractor: None) -> Metrics:
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
    answers = [
        forward_frozen_bn(of.discriminator, as_input(fakes.to(of.evaluator.device))) for fakes in of.fake.split(BLOCK)
    ]
    logits_BK = torch.cat([answer.expert_logits_NL.double().cpu() for answer in answers])
    return {"jsd_experts": jsd(logits_BK, of.weights_BK.double()).item()}


def _classes(of: Comparison, extractor: None) -> Metrics:
    names = ["expert_class", "nmi", "purity"]
    weights_BK = _weights(of, *names)
    if classifier.NAME not in of.evaluation.extractors:
        raise Unavailable(f"needs a classifier of images: evaluation.extractors=[…,{classifier.NAME}]", *names)
    layer = of.need(classifier.NAME, "isc", *names)
    logits_BC = of.fake_features(classifier.NAME).kept[layer]
    joint_KC = mixture.contingency(weights_BK, logits_BC.argmax(dim=1), logits_BC.shape[1])
    found = {"expert_class": joint_KC.tolist(), "nmi": mixture.nmi(joint_KC), "purity": mixture.purity(joint_KC)}
    if of.hierarchical:
        levels = mixture.by_level(joint_KC)
        found["nmi_by_level"] = [mixture.nmi(joint) for joint in levels]
        found["purity_by_level"] = [mixture.purity(joint) for joint in levels]
    return found


def _fid_by_expert(of: Comparison, extractor: str) -> Metrics:
    name = f"fid_by_expert{of.suffix(extractor)}"
    layer = of.need(extractor, "fid", name)
    features = of.fake_features(extractor).kept[layer]
    real = of.real_features(extractor).moments.get(layer)
    if real is None:
        raise Unavailable("needs fid among evaluation.metrics", name)
    return {name: [frechet(Moments().add(features[of_expert]), real) for of_expert in _by_expert(of, name)]}


def _ms_ssim_by_expert(of: Comparison, extractor: None) -> Metrics:
    name = "ms_ssim_by_expert"
    of.need_images(name)
    parts = [of.fake[of_expert] for of_expert in _by_expert(of, name)]
    return {name: [mean_ms_ssim(part, of.evaluation.ms_ssim_pairing, of.evaluator.device)[0] for part in parts]}


def _by_expert(of: Comparison, name: str) -> list[Tensor]:
    """Return the numbers of the samples of each expert: those it made, or had the largest part in."""
    weights_BK = _weights(of, name)
    made_by_B = weights_BK.argmax(dim=1)
    found = [(made_by_B == expert).nonzero().squeeze(1) for expert in range(weights_BK.shape[1])]
    few = [expert for expert, numbers in enumerate(found) if len(numbers) < 2]
    if few:
        raise Unavailable(f"fewer than two samples of expert {', '.join(map(str, few))}", name)
    return found


def _weights(of: Comparison, *names: str) -> Tensor:
    if of.weights_BK is None:
        raise Unavailable("these images do not come from a mixture", *names)
    return of.weights_BK


def _modes(of: Comparison, extractor: None) -> Metrics:
    if of.reals.gaussians is None:
        raise Unavailable("is for data that are a mixture of Gaussians", "modes_covered", "high_quality")
    covered, share = modes(of.fake, *of.reals.gaussians)
    return {"modes_covered": covered, "high_quality": share}


def _symmetric_kl(of: Comparison, extractor: None) -> Metrics:
    return _by_histograms(of, "symmetric_kl", plane.symmetric_kl)


def _wasserstein(of: Comparison, extractor: None) -> Metrics:
    return _by_histograms(of, "wasserstein", plane.wasserstein)


def _by_histograms(of: Comparison, name: str, distance: Callable[[Tensor, Tensor, float], float]) -> Metrics:
    reals = of.reals
    if reals.window is None:
        raise Unavailable("is for points in the plane whose data say in which window", name)
    of.notes["histograms"] = {"window": reals.window, "bins": plane.BINS, "eps": plane.EPS}
    values = {name: distance(of.fake, of.real, reals.window)}
    return values if reals.again is None else values | {f"{name}_real": distance(reals.again, of.real, reals.window)}


METRICS: Mapping[str, tuple[Metric, ...]] = {
    "fid": (Metric(_fid, "fid"),),
    "inception_score": (Metric(_inception_score, "isc"),),
    "kid": (Metric(_kid, "kid"),),
    "prc": (Metric(_prc, "prc"),),
    "ms_ssim": (Metric(_ms_ssim),),
    "knn": (Metric(_knn),),
    "mixture": (Metric(_usage), Metric(_jsd_experts)),
    "classes": (Metric(_classes),),
    "experts": (Metric(_fid_by_expert, "fid"), Metric(_ms_ssim_by_expert)),
    "modes": (Metric(_modes),),
    "plane": (Metric(_symmetric_kl), Metric(_wasserstein)),
}
FIGURES = {"prc": ("precision", "recall"), "knn": NEIGHBOURS}
"""What a metric is called in the results, where that is not its own name."""
