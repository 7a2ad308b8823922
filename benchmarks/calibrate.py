"""Measure the metrics of real images compared with real images: the best values that a generator can reach at each n.

    python benchmarks/calibrate.py [--n 2000] [--sets fashion_mnist cifar10]

For each data set, n = 500, 1,000 and 2,000 training images are compared with as many held-out images (the first n of
one random order). The metrics are FID on Inception's 768-d features, FID on the features of the data set's own
classifier, and the classifier's score of the held-out set. With the full Inception weights, the usual 2048-d FID and
the Inception score are added. The classifier's score is computed in random order, and in the order of the predicted
class, as if samples came expert by expert. Needs $MIXGAN_DATA or fetched data sets, and $MIXGAN_WEIGHTS.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from mixgan_cli.data.dataset import ImageDataset
from mixgan_cli.data.datasets.cifar10 import CIFAR10
from mixgan_cli.data.datasets.mnist import MNIST, FashionMNIST
from mixgan_cli.errors import Unavailable
from mixgan_cli.evaluation import classifier
from mixgan_cli.evaluation.classifier import Labelled
from mixgan_cli.evaluation.extractors import INCEPTION
from mixgan_cli.evaluation.features import Extractor
from mixgan_cli.evaluation.inception import find_weights
from mixgan_cli.evaluation.metrics.inception_score import inception_score
from mixgan_cli.evaluation.moments import Moments, frechet

SETS = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10}
SEED = 2020
LOGITS = "logits_unbiased"
CPU = torch.device("cpu")


def main() -> None:
    """Measure and print one table per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["fashion_mnist", "cifar10"])
    arguments = parser.parse_args()
    for name in arguments.sets:
        dataset: ImageDataset = SETS[name](None, 32, True).load()
        calibrate(name, dataset, arguments.n)


def calibrate(name: str, dataset: ImageDataset, most: int) -> None:
    """Print the metrics of the data set's real images."""
    labelled = Labelled(dataset.train, dataset.held_out)
    began = time.perf_counter()
    weights = classifier.weights_for(labelled, CPU)
    seconds = time.perf_counter() - began
    accuracy = 100 * classifier.accuracy_of(weights)
    print(f"\n{name}: classifier with {accuracy:.2f} % accuracy, trained or loaded in {seconds:.0f} s")
    train, test = dataset.reals(most, SEED, "train"), dataset.reals(most, SEED, "held_out")
    by_classifier = Extractor(classifier.NAME, ["features", "logits"], lambda: weights, 200, CPU)
    found = {"classifier": (kept(by_classifier, train, "features"), kept(by_classifier, test, "features"))}
    inception = Extractor(INCEPTION, ["768", "2048", LOGITS], lambda: find_weights(None, False), 50, CPU)
    try:
        layers = inception.layers
    except Unavailable as error:
        print(f"Inception is not used: {error}")
        layers = ()
    if layers:
        features = [inception(images, f"{name}: Inception", (), layers).kept for images in (train, test)]
        found |= {layer: (features[0][layer], features[1][layer]) for layer in layers if layer != LOGITS}
        if LOGITS in layers:
            told = "Inception score of {:,} training images: {:.2f} ± {:.2f}".format(
                len(train), *score(features[0][LOGITS])
            )
            print(f"{told} (published for all 50,000: 11.24 ± 0.16)" if name == "cifar10" else told)
    sizes = [n for n in (500, 1_000, 2_000, 5_000, 10_000) if n <= most]
    print(f"{'FID, training and held-out images':34}" + "".join(f"{f'n = {n:,}':>12}" for n in sizes))
    for layer, (fake, real) in found.items():
        figures = [frechet(Moments().add(fake[:n]), Moments().add(real[:n])) for n in sizes]
        print(f"{layer:34}" + "".join(f"{figure:12.4f}" for figure in figures))
    logits = kept(by_classifier, dataset.held_out.images_NCHW, "logits")
    sorted_by_class = logits[logits.argmax(dim=1).argsort()]
    print("classifier score of the held-out set, shuffled: {:.3f} ± {:.3f}".format(*score(logits)))
    print("the same images class by class, not shuffled:   {:.3f} ± {:.3f}".format(*in_order(sorted_by_class)))


def kept(extractor: Extractor, images: Tensor, layer: str) -> Tensor:
    """Return the features of all images on one layer."""
    return extractor(images, extractor.name, (), (layer,)).kept[layer]


def score(logits: Tensor) -> tuple[float, float]:
    """Return the score over ten shuffled splits, as the evaluator computes it."""
    return inception_score(logits, 10, SEED)


def in_order(logits: Tensor) -> tuple[float, float]:
    """Return the score over ten splits without shuffling."""
    scores = []
    for part in logits.double().softmax(dim=1).chunk(10):
        scores.append((part * (part.log() - part.mean(dim=0).log())).sum(dim=1).mean().exp())
    found = torch.stack(scores)
    return found.mean().item(), found.std(correction=0).item()


if __name__ == "__main__":
    main()
