"""Gates, experts, heads and backbones, and the networks that are built from them. No module here knows a loss.

Shape suffixes: B latents or images, K experts, Z latent size, H hidden size, C channels, N a number of scores.
Configurations name these classes as `mixgan_cli.models.TreeGate`, whichever file defines them.
"""

from mixgan_cli.models.backbones.base import Backbone
from mixgan_cli.models.backbones.dcgan import DCGAN
from mixgan_cli.models.backbones.mggan import TFPaddedDCGAN
from mixgan_cli.models.backbones.mlp import MLP
from mixgan_cli.models.experts import ConstantExperts, DenseExperts, Experts, LinearExperts, NetworkExperts
from mixgan_cli.models.gates import Gate, NoGate, SoftmaxGate, TreeGate, UniformGate
from mixgan_cli.models.gumbel import GumbelGate
from mixgan_cli.models.heads import ClassifierHead, Head, MulticlassHead, ScoreHead

__all__ = [
    "DCGAN",
    "MLP",
    "Backbone",
    "ClassifierHead",
    "ConstantExperts",
    "DenseExperts",
    "Experts",
    "Gate",
    "GumbelGate",
    "Head",
    "LinearExperts",
    "MulticlassHead",
    "NetworkExperts",
    "NoGate",
    "ScoreHead",
    "SoftmaxGate",
    "TFPaddedDCGAN",
    "TreeGate",
    "UniformGate",
]
