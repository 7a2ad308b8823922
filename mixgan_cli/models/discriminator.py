"""The discriminator (for Wasserstein objectives: the critic): a body that finds features, and a head."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mixgan_cli.models.heads import Head


class Answer(NamedTuple):
    """What the discriminator says: scores [N], the experts' logits [N, L] or None, and the features [N, F]."""

    score_N: Tensor
    experts_NL: Tensor | None
    features_NF: Tensor


class Discriminator(nn.Module):
    """The head's judgement of samples [N, …], and the features it was made on."""

    def __init__(self, body: nn.Module, head: Head) -> None:
        super().__init__()
        self.body = body
        self.head: Head = head

    def forward(self, samples: Tensor, isolated: bool = False) -> Answer:
        """Judge samples [N, …]; `isolated`, what the classifier of experts learns does not reach the body."""
        features_NF = self.body(samples)
        score_N, experts_NL = self.head(features_NF, isolated)
        return Answer(score_N, experts_NL, features_NF)
