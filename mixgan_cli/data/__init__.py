"""Data sets, the cache of prepared sets, and batches on the device.

Configurations name data sets as `mixgan_cli.data.CelebA`, whichever file defines them.
"""

from mixgan_cli.data.datasets.arrays import Arrays
from mixgan_cli.data.datasets.celeba import CelebA
from mixgan_cli.data.datasets.cifar10 import CIFAR10, ImageNet32
from mixgan_cli.data.datasets.folder import Flowers102, Folder, UTZap50K
from mixgan_cli.data.datasets.mnist import MNIST, Digits, FashionMNIST
from mixgan_cli.data.datasets.stacked_mnist import StackedMNIST
from mixgan_cli.data.datasets.stl10 import STL10
from mixgan_cli.data.datasets.toy2d import Grid, Pair, RandomGMM, Ring, Spiral, Toy2D

__all__ = [
    "CIFAR10",
    "MNIST",
    "STL10",
    "Arrays",
    "CelebA",
    "Digits",
    "FashionMNIST",
    "Flowers102",
    "Folder",
    "Grid",
    "ImageNet32",
    "Pair",
    "RandomGMM",
    "Ring",
    "Spiral",
    "StackedMNIST",
    "Toy2D",
    "UTZap50K",
]
