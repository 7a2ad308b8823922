"""Adversarial losses, penalties, terms and augmentations: functions of what the networks return.

Configurations name these classes as `mixgan_cli.objectives.Hinge`, whichever file defines them.
"""

from mixgan_cli.objectives.adversarial import (
    Adversarial,
    DualDiscriminator,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    PairedAdversarial,
    RelativisticPairing,
    TermsOnly,
    Wasserstein,
)
from mixgan_cli.objectives.augment import DiffAugment
from mixgan_cli.objectives.augment_bgc import BlitGeometryColor
from mixgan_cli.objectives.penalties import (
    R1,
    GradientPenalty,
    InputGradientPenalty,
    NoPenalty,
    WeightClipping,
    ZeroCentred,
)
from mixgan_cli.objectives.terms import (
    Competition,
    Diversity,
    FeatureMatching,
    GateTerm,
    GeneratedBatch,
    GeneratorTerm,
    LearnedPrior,
    LoadBalance,
    PriorEntropy,
)
from mixgan_cli.objectives.unrolling import Unrolling

__all__ = [
    "R1",
    "Adversarial",
    "BlitGeometryColor",
    "Competition",
    "DiffAugment",
    "Diversity",
    "DualDiscriminator",
    "FeatureMatching",
    "GateTerm",
    "GeneratedBatch",
    "GeneratorTerm",
    "GradientPenalty",
    "Hinge",
    "InputGradientPenalty",
    "LearnedPrior",
    "LeastSquares",
    "LoadBalance",
    "Minimax",
    "NoPenalty",
    "NonSaturating",
    "PairedAdversarial",
    "PriorEntropy",
    "RelativisticPairing",
    "TermsOnly",
    "Unrolling",
    "Wasserstein",
    "WeightClipping",
    "ZeroCentred",
]
