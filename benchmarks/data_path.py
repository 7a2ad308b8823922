"""Measure how fast images reach the training loop: preparing CIFAR-10, and reading one epoch with each loader.

    python benchmarks/data_path.py [--device cuda] [--batch 128] [--images 50000]

The loaders of mixgan are compared with a plain DataLoader: torchvision's CIFAR10 as PIL images, ToTensor, Normalize,
shuffled, two workers, pinned memory on a GPU. Without a copy of CIFAR-10 (mixgan fetch data=cifar10), all loaders read
noise of the same size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from mixgan_cli.data.batches import make_batches
from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.datasets.cifar10 import CIFAR10
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError

ROUNDS = 5


class Pictures(TorchDataset):
    """A data set like torchvision.datasets.CIFAR10: an array, one PIL image per item, a transform."""

    def __init__(self, images_NCHW: Tensor) -> None:
        self.images = images_NCHW.permute(0, 2, 3, 1).numpy()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[index]))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=50_000)
    arguments = parser.parse_args()
    device, batch = torch.device(arguments.device), arguments.batch
    train = _cifar10(arguments.images)

    def ours(place: str) -> Callable[[], Iterator[Tensor]]:
        batches = make_batches(train, 0, device, place)  # type: ignore[arg-type]
        return lambda: (batches.get_batch(nimg, batch) for nimg in range(0, len(train) - batch + 1, batch))

    loader = DataLoader(
        Pictures(train.images_NCHW),
        batch,
        shuffle=True,
        num_workers=2,
        drop_last=True,
        pin_memory=device.type == "cuda",
    )
    ways = {
        "on the device": ours("device"),
        "from memory, one batch ahead": ours("host"),
        "memory-mapped, one batch ahead": ours("disk"),
        "DataLoader, 2 workers": lambda: (images.to(device, non_blocking=True) for images in loader),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):  # alternating, so that a slow minute of the machine affects all loaders
        for name, epoch in ways.items():
            rates[name].append(_rate(epoch, batch, device))
    plain = statistics.median(rates["DataLoader, 2 workers"])
    print(f"{len(train):,} images of {train.shape}, batch {batch}, {device}, {torch.get_num_threads()} threads")
    print(f"{'':30} {'images/s':>10} {'min':>10} {'max':>10} {'ratio':>7}")
    for name, found in rates.items():
        middle = statistics.median(found)
        print(f"{name:30} {middle:10,.0f} {min(found):10,.0f} {max(found):10,.0f} {middle / plain:6.1f}x")


def _cifar10(images: int) -> Packed:
    with tempfile.TemporaryDirectory() as cache:  # a mapped file can be read after it was removed
        try:
            archive, _ = CIFAR10(None, 32, labels=False).locate()
            os.environ["MIXGAN_CACHE"] = cache  # so that it is prepared now, not loaded from the user's cache
            source = CIFAR10(str(archive.root), 32, labels=False)
            began = time.perf_counter()
            dataset: ImageDataset = source.load()
            prepared = time.perf_counter() - began
            source.load()
            n, again = len(dataset.train) + len(dataset.held_out), time.perf_counter() - began - prepared
            print(
                f"CIFAR-10 from {archive.root.name}: prepared in {prepared:.2f} s ({n / prepared:,.0f} images/s), ",
                end="",
            )
            print(f"loaded from the cache in {again:.3f} s")
        except DataError:
            path = Path(cache) / "noise"
            noise = np.memmap(path, np.uint8, "w+", shape=(images, 3, 32, 32))
            noise[:] = np.random.default_rng(0).integers(0, 256, noise.shape, dtype=np.uint8)
            print("no copy of CIFAR-10 found: using noise of the same size")
            return Packed(torch.from_numpy(noise), None, "noise")
        return dataset.train.subset(torch.arange(min(images, len(dataset.train))))


def _rate(epoch: Callable[[], Iterator[Tensor]], batch: int, device: torch.device) -> float:
    """Return the images per second of one epoch; one pixel of each batch is read."""
    count, total = 0, torch.zeros((), device=device)
    began = time.perf_counter()
    for images in epoch():
        total += images[0, 0, 0, 0]
        count += batch
    total.item()
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
