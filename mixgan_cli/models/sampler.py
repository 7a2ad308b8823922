"""Sampling: what the evaluator, the sample command and a user's own code do with a trained generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mixgan_cli.data.pixels import to_uint8
from mixgan_cli.models.generator import Fakes, Generator
from mixgan_cli.randomness import seeded

BLOCK = 256
"""Samples made at a time: fixed, for a uniform gate spreads the experts evenly over what it makes at once."""


class Sampler(nn.Module):
    """A generator in eval mode, so that a sample depends on its latent alone and not on its neighbours in the batch."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    @property
    def k(self) -> int:
        """The number of experts."""
        return self.generator.k

    @property
    def hard(self) -> bool:
        """Whether each sample is one expert's alone."""
        return self.generator.gate.hard

    def sample(self, n: int, seed: int = 0, expert: int | None = None) -> Tensor:
        """Return n samples: images uint8 [n, C, H, W], or points float32 [n, D]; on the CPU.

        Args:
            n: how many.
            seed: of the latents; the same seed gives the same samples.
            expert: only this expert, 0 … K - 1; None for the mixture.
        """
        return self.draw(n, seed, expert).samples

    @torch.no_grad()
    def draw(self, n: int, seed: int, expert: int | None = None) -> Fakes:
        """Return samples as `sample` does, and the gate's weights [n, K]."""
        was_training = self.generator.training
        self.generator.eval()
        try:
            with seeded("sample", seed):
                latent_NZ = self.generator.latents(n, device="cpu")  # so that a seed means the same on every device
                device = self.generator.device
                made = [self.generator(latent_BZ.to(device), expert) for latent_BZ in latent_NZ.split(BLOCK)]
        finally:
            self.generator.train(was_training)
        samples = torch.cat([_finished(fakes.samples).cpu() for fakes in made])
        return Fakes(samples, torch.cat([fakes.weights_BK.float().cpu() for fakes in made]))

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return samples for these latents, images as uint8: what torch-fidelity asks of a generative model."""
        return _finished(self.generator(latent_BZ).samples)


def _finished(samples: Tensor) -> Tensor:
    """Images as uint8, points as float32."""
    return to_uint8(samples) if samples.dim() == 4 else samples.float()
