"""Heads: what the discriminator says of the features its body found.

A new head is a class whose call maps features [N, F] to an answer, and a YAML in conf/model/head/.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from mixgan_cli.models.initialise import Initialise


class ScoreHead(nn.Module):
    """One raw number an image: a logit, or the critic's score. Initialised as the backbone's layers are."""

    classifies_experts = False
    """Whether it also says which expert made a sample; only then a diversity weight `beta` means something."""

    def __init__(self, features: int, initialise: Initialise, spectral_norm: bool) -> None:
        super().__init__()
        score = nn.Linear(features, 1)
        initialise(score.weight, score.bias, features)
        self.score = with_spectral_norm(score) if spectral_norm else score

    def forward(self, features_NF: Tensor) -> Tensor:
        """Return the scores [N]."""
        return self.score(features_NF).squeeze(1)
