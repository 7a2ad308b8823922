"""FID, Inception score, KID, precision and recall: torch-fidelity's extractor and formulas, one pass over the images.

Traps this code walks around: the extractor wants uint8 RGB; generative models are sampled here, not there, so that the
seed covers the choice of experts; features are widened to float64 before FID averages them; caches keyed by name only
are not used; weights that are incomplete give NaN features, which must never become a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
from torch_fidelity.utils import create_feature_extractor
from tqdm import tqdm

from mixgan_cli.config import Evaluation
from mixgan_cli.errors import ConfigError, nearest
from mixgan_cli.evaluation.unavailable import Unavailable
from mixgan_cli.evaluation.weights import checksum, find_weights

INCEPTION = "inception-v3-compat"
STANDARD_LAYER = "2048"


@dataclass
class Extractor:
    """A feature extractor registered with torch-fidelity, giving some of its layers for images uint8 [N, C, H, W].

    Layers that cannot be computed, for lack of weights, are missing from `layers`; `missing` says why.
    """

    evaluation: Evaluation
    wanted: Sequence[str]
    device: torch.device

    @cached_property
    def weights(self) -> Path | None:
        """The file of the weights, or None for an extractor that brings its own. Raises Unavailable."""
        if self.evaluation.extractor != INCEPTION:
            return None
        return find_weights(self.evaluation.weights, self.evaluation.download)

    @cached_property
    def missing(self) -> dict[str, str]:
        """Why a wanted layer is not in `layers`."""
        try:
            probe = self._network(tuple(self.wanted))
        except Unavailable as error:
            return dict.fromkeys(self.wanted, str(error))
        except Exception as error:  # a damaged or foreign file; which kind of error it gives is torch's business
            return dict.fromkeys(
                self.wanted,
                f"{self.weights or self.evaluation.extractor}: cannot be loaded ({type(error).__name__}: {error})",
            )
        pixels = torch.arange(2 * 3 * 32 * 32, device=self.device).remainder(251).to(torch.uint8).view(2, 3, 32, 32)
        finite = {name: bool(part.isfinite().all()) for name, part in self._apply(probe, pixels).items()}
        reason = f"{self.weights}: the weights are incomplete (NaN) up to the layer {{}}: get the full file"
        return {name: reason.format(name) for name, whole in finite.items() if not whole}

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The wanted layers that can be computed."""
        return tuple(name for name in self.wanted if name not in self.missing)

    def describe(self) -> dict[str, str | None]:
        """Say what a protocol says of the extractor."""
        try:
            found = self.weights
        except Unavailable:
            found = None
        return {"extractor": self.evaluation.extractor, "extractor_weights": checksum(found) if found else None}

    def __call__(self, images_NCHW: Tensor, description: str) -> dict[str, Tensor]:
        """Return the layers' features [N, F] float32 on the CPU, from one pass over the images."""
        if not self.layers:
            return {}
        network = self._network(self.layers)
        batches = images_NCHW.split(self.evaluation.batch)
        parts = [
            {name: part.cpu() for name, part in self._apply(network, _rgb(batch).to(self.device)).items()}
            for batch in tqdm(batches, desc=description, unit="batch", leave=False)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.layers}

    def _network(self, layers: tuple[str, ...]) -> torch.nn.Module:
        weights = {"feature_extractor_weights_path": str(self.weights)} if self.weights else {}
        network = create_feature_extractor(
            self.evaluation.extractor, list(layers), cuda=False, verbose=False, **weights
        )
        network = network.to(self.device)
        assert not network.training, "an extractor in train mode gives other numbers"
        return network

    @torch.no_grad()
    def _apply(self, network: torch.nn.Module, images: Tensor) -> dict[str, Tensor]:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 means float32 here
            return network.convert_features_tuple_to_dict(network(images))  # type: ignore[operator]


def check_extractor(extractor: str) -> None:
    """Raise ConfigError where torch-fidelity knows no such extractor."""
    if extractor not in FEATURE_EXTRACTORS_REGISTRY:
        known = sorted(FEATURE_EXTRACTORS_REGISTRY)
        raise ConfigError(
            f"evaluation.extractor={extractor}: torch-fidelity knows no such extractor."
            f"{nearest(extractor, known)} Registered: {', '.join(known)}"
        )


def logits_layer(extractor: str) -> str:
    """Return the extractor's layer for the Inception score."""
    check_extractor(extractor)
    return FEATURE_EXTRACTORS_REGISTRY[extractor].get_default_feature_layer_for_metric("isc")


def fid(fake_NF: Tensor, real_NF: Tensor) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6)."""
    statistics = [fid_features_to_statistics(features.double()) for features in (fake_NF, real_NF)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def inception_score(logits_NC: Tensor, splits: int, seed: int) -> tuple[float, float]:
    """Return mean and standard deviation over shuffled splits of exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016)."""
    score = isc_features_to_metric(logits_NC, splits=splits, shuffle=True, rng_seed=seed)
    return score[KEY_METRIC_ISC_MEAN], score[KEY_METRIC_ISC_STD]


def kid(fake_NF: Tensor, real_NF: Tensor, seed: int) -> tuple[float, float]:
    """Return mean and deviation of the kernel distance over 100 subsets of at most 1,000 (Bińkowski et al. 2018)."""
    size = min(1000, len(fake_NF), len(real_NF))
    result = kid_features_to_metric(fake_NF, real_NF, kid_subset_size=size, rng_seed=seed, verbose=False)
    return result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD]


def precision_recall(fake_NF: Tensor, real_NF: Tensor) -> tuple[float, float]:
    """Return improved precision and recall with 3 neighbours (Kynkäänniemi et al. 2019), block by block."""
    result = prc_features_to_metric(fake_NF, real_NF, save_cpu_ram=True, prc_batch_size=2000, verbose=False)
    return result[KEY_METRIC_PRECISION], result[KEY_METRIC_RECALL]


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
