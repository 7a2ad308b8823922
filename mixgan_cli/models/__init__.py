"""Gates, experts, heads and backbones, and the networks built from them. No module here depends on a loss.

Shape suffixes: B latents or samples, K experts, Z latent size, H hidden size, F features, C channels, N samples that
the discriminator scores, L expert logits. Configurations name these classes by this package, for example
`mixgan_cli.models.TreeGate`, and not by the file that defines them.
"""

from mixgan_cli.models.backbones.base import Backbone
from mixgan_cli.models.backbones.dcgan import DCGAN
from mixgan_cli.models.backbones.mggan import TFPaddedDCGAN
from mixgan_cli.models.backbones.mlp import MLP
from mixgan_cli.models.backbones.pacgan import MaxoutMLP, PacGANDCGAN
from mixgan_cli.models.backbones.r3gan import R3GAN
from mixgan_cli.models.backbones.sngan import SNGANDCGAN, SNGANResNet
from mixgan_cli.models.experts import (
    BasisExperts,
    ConstantExperts,
    DenseExperts,
    Experts,
    LinearExperts,
    NetworkExperts,
)
from mixgan_cli.models.gates import Gate, GateWeights, NoGate, SoftmaxGate, TreeGate, UniformGate
from mixgan_cli.models.gumbel import GumbelGate
from mixgan_cli.models.heads import ClassifierHead, DiscriminatorOutput, Head, MulticlassHead, ScoreHead, TwoScoreHead
from mixgan_cli.models.minibatch import MinibatchHead
from mixgan_cli.models.mix_gan import CommitteeHead, WeightedGate
from mixgan_cli.models.prior import PriorGate

__all__ = [
    "DCGAN",
    "MLP",
    "R3GAN",
    "SNGANDCGAN",
    "Backbone",
    "BasisExperts",
    "ClassifierHead",
    "CommitteeHead",
    "ConstantExperts",
    "DenseExperts",
    "DiscriminatorOutput",
    "Experts",
    "Gate",
    "GateWeights",
    "GumbelGate",
    "Head",
    "LinearExperts",
    "MaxoutMLP",
    "MinibatchHead",
    "MulticlassHead",
    "NetworkExperts",
    "NoGate",
    "PacGANDCGAN",
    "PriorGate",
    "SNGANResNet",
    "ScoreHead",
    "SoftmaxGate",
    "TFPaddedDCGAN",
    "TreeGate",
    "TwoScoreHead",
    "UniformGate",
    "WeightedGate",
]
