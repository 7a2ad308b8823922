"""Features of images: one pass through a network for all metrics, and a cache for those of real images.

The pass avoids several traps: extractors want uint8 RGB; features are widened to float64 before FID averages them;
weights that are incomplete give NaN features, which must never become a number.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.utils import create_feature_extractor
from tqdm import tqdm

from mixgan_cli.config.schema import Evaluation
from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.packed import checksum
from mixgan_cli.errors import Unavailable, error_summary
from mixgan_cli.evaluation import classifier, inception
from mixgan_cli.evaluation.extractors import INCEPTION, resize_of
from mixgan_cli.evaluation.moments import Moments
from mixgan_cli.runtime.device import full_float32
from mixgan_cli.runtime.io import atomic_write

log = logging.getLogger("mixgan")


class Features(NamedTuple):
    """What a pass over images returns, by layer: moments for FID, and features [N, F] float32 on the CPU."""

    moments: dict[str, Moments]
    kept: dict[str, Tensor]


@dataclass
class Extractor:
    """A feature extractor registered with torch-fidelity that returns some layers for images uint8 [N, C, H, W].

    Layers that cannot be computed because weights are missing are not in `layers`; `missing` has the reasons.
    """

    name: str
    wanted: Sequence[str]
    find: Callable[[], Path | None]
    """Returns the file of the weights, or None if the extractor brings its own. Raises Unavailable."""
    batch: int
    device: torch.device
    precision: Literal["float32", "bf16"] = "float32"
    _networks: dict[tuple[str, ...], torch.nn.Module] = field(default_factory=dict, init=False, repr=False)
    """The network for each tuple of layers, so that weights are read once."""

    @cached_property
    def weights(self) -> Path | None:
        """File of the weights. Raises Unavailable."""
        return self.find()

    @cached_property
    def missing(self) -> dict[str, str]:
        """The reason for each wanted layer that is not in `layers`."""
        try:
            network = self._network(tuple(self.wanted))
        except Unavailable as error:
            return dict.fromkeys(self.wanted, str(error))
        except Exception as error:  # a damaged file, or another network's: the type of the error depends on it
            reason = f"{self.weights or self.name}: cannot be loaded ({type(error).__name__}: {error})"
            return dict.fromkeys(self.wanted, reason)
        images = torch.arange(2 * 3 * 32 * 32, device=self.device).remainder(251).to(torch.uint8).view(2, 3, 32, 32)
        finite = {name: bool(part.isfinite().all()) for name, part in self._apply(network, images).items()}
        reason = f"{self.weights}: the weights are incomplete (NaN) up to the layer {{}}: get the full file"
        return {name: reason.format(name) for name, is_finite in finite.items() if not is_finite}

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """The wanted layers that can be computed."""
        return tuple(name for name in self.wanted if name not in self.missing)

    def describe(self) -> dict[str, str | float | None]:
        """Return what the protocol records: name, kind of resizing, checksum of the weights, a classifier's accuracy.

        The accuracy is the share of the set's held-out images that the classifier recognises.
        """
        try:
            weights = self.weights
        except Unavailable:
            weights = None
        description: dict[str, str | float | None] = {
            "name": self.name,
            "resize": resize_of(self.name),
            "weights": inception.file_checksum(weights) if weights else None,
        }
        if weights and self.name == classifier.NAME:
            description["accuracy"] = classifier.accuracy_of(weights)
        return description

    def __call__(self, images_NCHW: Tensor, title: str, averaged: Collection[str], kept: Collection[str]) -> Features:
        """Pass over the images once.

        Args:
            images_NCHW: uint8, on the CPU.
            title: title of the progress bar.
            averaged: layers to return moments of; those that cannot be computed are left out.
            kept: layers to return whole.
        """
        features = Features({layer: Moments() for layer in self.layers if layer in averaged}, {})
        parts: dict[str, list[Tensor]] = {layer: [] for layer in self.layers if layer in kept}
        layers = tuple(layer for layer in self.layers if layer in {*averaged, *kept})
        if not layers:
            return features
        network = self._network(layers)
        for images in tqdm(images_NCHW.split(self.batch), desc=title, unit="batch", leave=False):
            for layer, part in self._apply(network, _rgb(images).to(self.device)).items():
                if layer in features.moments:
                    features.moments[layer].add(part)
                if layer in parts:
                    parts[layer].append(part.float().cpu())
        features.kept.update({layer: torch.cat(pieces) for layer, pieces in parts.items()})
        return features

    def _network(self, layers: tuple[str, ...]) -> torch.nn.Module:
        if layers in self._networks:
            return self._networks[layers]
        weights = {"feature_extractor_weights_path": str(self.weights)} if self.weights else {}
        network = create_feature_extractor(self.name, list(layers), cuda=False, verbose=False, **weights)
        network = network.to(self.device, memory_format=torch.channels_last)  # 1.4 times as fast (docs/performance.md)
        assert not network.training, "an extractor in train mode gives other numbers"
        self._networks[layers] = network
        return network

    @torch.no_grad()
    def _apply(self, network: torch.nn.Module, images: Tensor) -> dict[str, Tensor]:
        in_bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with full_float32(), in_bf16:
            return network.convert_features_tuple_to_dict(network(images))  # type: ignore[operator]


def weights_finder(
    name: str, settings: Evaluation, labelled: classifier.Labelled | None, device: torch.device
) -> Callable[[], Path | None]:
    """Return the function that finds the weights of an extractor, for `Extractor.find`."""
    finders: dict[str, Callable[[], Path | None]] = {
        INCEPTION: lambda: inception.require_tensors(inception.find_weights(settings.weights, settings.download)),
        inception.TORCHVISION: lambda: inception.find_torchvision_weights(settings.download),
        classifier.NAME: lambda: classifier.weights_for(labelled, device),
    }
    return finders.get(name, lambda: None)


def cached_features(
    extractor: Extractor, images_NCHW: Tensor, averaged: Collection[str], kept: Collection[str]
) -> Features:
    """Return features of real images from the cache, computing and storing those that are not there.

    The key is the checksum of the images (so of their number and preprocessing too), the extractor, its weights and
    precision, and the layer.
    """
    wanted = {(layer, "moments") for layer in averaged} | {(layer, "features") for layer in kept}
    wanted = {(layer, kind) for layer, kind in wanted if layer in extractor.layers}
    description = extractor.describe()
    base = f"{checksum(images_NCHW)}/{description['name']}/{description['weights']}/{extractor.precision}"
    paths = {(layer, kind): _cache_file(f"{base}/{layer}/{kind}") for layer, kind in wanted}
    found = Features({}, {})
    missing = {key for key, path in paths.items() if not _read(path, key, found)}
    if missing:
        computed = extractor(
            images_NCHW,
            f"{extractor.name}: features of real images",
            {layer for layer, kind in missing if kind == "moments"},
            {layer for layer, kind in missing if kind == "features"},
        )
        found.moments.update(computed.moments)
        found.kept.update(computed.kept)
        for layer, kind in missing:
            is_moments = kind == "moments"
            arrays = computed.moments[layer].state() if is_moments else {"features": computed.kept[layer].numpy()}
            _write(paths[layer, kind], arrays)
    return found


def _cache_file(key: str) -> Path:
    return cache_dir() / "references" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _read(path: Path, key: tuple[str, str], into: Features) -> bool:
    """Read moments or features of a layer into `into`; return False if they have to be computed."""
    layer, kind = key
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if kind == "moments":
                into.moments[layer] = Moments.from_state(dict(arrays))
            else:
                into.kept[layer] = torch.from_numpy(arrays["features"])
    except FileNotFoundError:
        return False
    except Exception as error:  # a damaged file, whatever error numpy raises for it
        log.warning("warning: %s cannot be read (%s); computing it again", path, error)
        return False
    return True


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        log.warning(
            "warning: %s cannot be written (%s); the next evaluation computes it again", path, error_summary(error)
        )


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
