"""The discriminator (for Wasserstein objectives: the critic): a body that finds features, and a head."""

from __future__ import annotations

from torch import Tensor, nn


class Discriminator(nn.Module):
    """The head's answer for samples [N, …]; for the score head, scores [N]."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, samples: Tensor) -> Tensor:
        """Judge each sample."""
        return self.head(self.body(samples))
