"""A small classifier trained once on a labelled data set: features and classes of its images without a download.

On sets like MNIST they mean more than Inception's, which was trained on photographs. Like Inception it serves every
metric: `fid_classifier`, `kid_classifier`, `classifier_score`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from torch_fidelity.registry import register_feature_extractor
from torchvision.transforms.v2.functional import resize
from tqdm import tqdm

from mixgan_cli.data.batches import PackedBatches
from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.images import to_float
from mixgan_cli.data.packed import Packed, checksum
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation.extractors import ImageNetwork
from mixgan_cli.models.export.safetensors import open_safetensors, write_safetensors
from mixgan_cli.runtime.random import fork_seed

log = logging.getLogger("mixgan")

NAME = "classifier"
VERSION = 1
"""Bump on any change of the network or its training, to invalidate cached weights."""
WIDTHS, FEATURES = (32, 64, 128), 128
EPOCHS, BATCH, RATE, SHIFT = 4, 128, 3e-3, 2


class Labelled(NamedTuple):
    """A data set with labels: images to train on, and images to test on."""

    train: Packed
    held_out: Packed


class ImageClassifier(nn.Module):
    """Three stages of convolutions, pooled to 128 features, and a linear layer to the classes.

    Args:
        channels: of the images.
        size: pixels per side of the images.
        classes: number of classes.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        stages = [stage for widths in pairwise((channels, *WIDTHS)) for stage in _stage(*widths)]
        self.body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], FEATURES))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, classes))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 128] and logits [N, classes] of images [N, C, H, W] in [-1, 1]."""
        features = self.body(images)
        return features, self.head(features)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 128] and logits [N, classes] of images uint8 [N, channels, H, W] of any size."""
        if images.shape[-2:] != (self.size, self.size):
            images = resize(images, [self.size, self.size], antialias=True)
        features, logits = self(to_float(images))
        return features, logits


class ClassifierExtractor(ImageNetwork):
    """The classifier in a file of `weights_for`, as an extractor of torch-fidelity.

    Args:
        name: the name it is registered by.
        features_list: the layers to return: `features`, `logits`.
        feature_extractor_weights_path: file of the classifier.
        settings: not used.
    """

    layer_of: ClassVar[Mapping[str, str]] = {**dict.fromkeys(("fid", "kid", "prc"), "features"), "isc": "logits"}
    resize = "bilinear with antialiasing to the set's own side"

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str, **settings: Any
    ) -> None:
        super().__init__(name, features_list)
        self.network = load(Path(feature_extractor_weights_path))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the wanted layers of uint8 images [N, 3, H, W] of any size."""
        channels = self.network.channels  # a grey image has three equal ones
        features, logits = self.network.read(images[:, :channels])
        return tuple({"features": features, "logits": logits}[name] for name in self.features_list)


def weights_for(labelled: Labelled | None, device: torch.device) -> Path:
    """Return the file of a classifier for this data set, from the cache or trained now.

    Raises:
        Unavailable: the data set has no labels, or the file cannot be written.
    """
    if labelled is None or labelled.train.labels_N is None or labelled.held_out.labels_N is None:
        raise Unavailable("a classifier needs a set with labels for all images (data.labels=true, where it has them)")
    key = f"{labelled.train.checksum}-{checksum(labelled.train.labels_N)}-{VERSION}"
    path = cache_dir() / "classifiers" / f"{key}.safetensors"
    try:
        load(path)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        if path.exists():
            log.warning("warning: %s cannot be read (%s); training it again", path, error)
        network, accuracy = train(labelled, device)
        log.info("classifier: accuracy %.2f %% on the held-out images", 100 * accuracy)
        sizes = {"channels": network.channels, "size": network.size, "classes": network.head[-1].out_features}
        try:
            metadata = {"sizes": json.dumps(sizes), "accuracy": f"{accuracy:.4f}"}
            write_safetensors(path, network.state_dict(), metadata)
        except OSError as failed:  # torch-fidelity reads it from the file
            raise Unavailable(
                f"{path}: the classifier cannot be stored ({failed}). Make room, or set $MIXGAN_CACHE"
            ) from failed
    return path


def load(path: Path) -> ImageClassifier:
    """Return the network in a file, in eval mode."""
    with open_safetensors(path) as file:
        network = ImageClassifier(**json.loads(file.metadata()["sizes"]))
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return network.eval()


def accuracy_of(path: Path) -> float:
    """Return the accuracy on the held-out images of the network in a file, from 0 to 1."""
    with open_safetensors(path) as file:
        return float(file.metadata()["accuracy"])


def train(labelled: Labelled, device: torch.device) -> tuple[ImageClassifier, float]:
    """Return a trained network, on the CPU and in eval mode, and its accuracy on the held-out images."""
    images, labels = labelled.train, labelled.train.labels_N
    assert labels is not None
    batch = min(BATCH, len(images))
    steps = EPOCHS * len(images) // batch
    with fork_seed("classifier"):
        network = ImageClassifier(images.shape[0], images.shape[1], int(labels.max()) + 1).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
        batches, targets = PackedBatches(images, 0, device), labels.to(device)
        for step in tqdm(range(steps), desc="classifier of images", unit="batch", leave=False):
            logits = network(_shifted(batches.get_batch(step * batch, batch)))[1]
            loss = cross_entropy(logits, targets[batches.order.indices(step * batch, batch)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    return network.cpu(), _accuracy(network, labelled.held_out)


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Return two 3×3 convolutions, the first of which halves the side."""
    layers: list[nn.Module] = []
    for before, stride in ((inputs, 2), (outputs, 1)):
        layers += [nn.Conv2d(before, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return layers


def _shifted(images: Tensor) -> Tensor:
    """Shift the batch by up to two pixels at random, filling with black. It prevents overfitting."""
    left, top = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
    height, width = images.shape[-2:]
    return pad(images, (SHIFT,) * 4, value=-1.0)[..., top : top + height, left : left + width]


@torch.no_grad()
def _accuracy(network: ImageClassifier, held_out: Packed) -> float:
    correct = 0
    assert held_out.labels_N is not None
    for rows in torch.arange(len(held_out)).split(500):
        correct += int((network.read(held_out[rows])[1].argmax(dim=1) == held_out.labels_N[rows]).sum())
    return correct / len(held_out)


register_feature_extractor(NAME, ClassifierExtractor)
