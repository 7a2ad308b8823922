"""Sampling: what the evaluator, the sample command and a user's own code do with a trained generator."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mixgan_cli.data.images import to_uint8
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import Generator, GeneratorOutput
from mixgan_cli.runtime.random import fork_seed

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

    @property
    def latent_size(self) -> int:
        """Z."""
        return self.generator.latent_size

    @property
    def prior(self) -> Literal["normal", "uniform"]:
        """Of each coordinate of the latents: N(0, 1), or uniform on [-1, 1]."""
        return self.generator.prior

    def sample(self, n: int, seed: int = 0, expert: int | None = None, truncation: float | None = None) -> Tensor:
        """Return n samples: images uint8 [n, C, H, W], or points float32 [n, D]; on the CPU.

        Args:
            n: how many.
            seed: of the latents; the same seed gives the same samples.
            expert: only this expert, 0 … K - 1; None for the mixture.
            truncation: see `latents`.

        Raises:
            ConfigError: there is no such expert, or the truncation is not positive.
        """
        return self.draw(n, seed, expert, truncation).samples

    @torch.no_grad()
    def draw(self, n: int, seed: int, expert: int | None = None, truncation: float | None = None) -> GeneratorOutput:
        """Return samples as `sample` does, and the gate's weights [n, K]."""
        was_training = self.generator.training
        self.generator.eval()
        try:
            with fork_seed("sample", seed):
                latent_NZ = self._latents(n, truncation)
                device = self.generator.device
                made = [self.generator(latent_BZ.to(device), expert) for latent_BZ in latent_NZ.split(BLOCK)]
        finally:
            self.generator.train(was_training)
        samples = torch.cat([_finished(fakes.samples).cpu() for fakes in made])
        return GeneratorOutput(samples, torch.cat([fakes.weights_BK.float().cpu() for fakes in made]))

    def latents(self, n: int, seed: int = 0, truncation: float | None = None) -> Tensor:
        """Return the latents [n, Z] of the samples of a seed, on the CPU.

        Args:
            n: how many.
            seed: which.
            truncation: |z| ≤ this in each coordinate, as if one beyond it were drawn anew (Brock et al. 2019): samples
                nearer to the usual, and less diverse. None: the whole prior. Those of a seed change little by little.

        Raises:
            ConfigError: the truncation is not positive.
        """
        with fork_seed("sample", seed):
            return self._latents(n, truncation)

    def forward(self, latent_BZ: Tensor, expert: int | None = None) -> Tensor:
        """Return samples for these latents, uint8 [B, C, H, W] or points [B, D], by the mixture or one expert alone."""
        return _finished(self.generator(latent_BZ, expert).samples)

    def mix(self, latent_BZ: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return the samples trunk(\sum_k a_k G_k(z)) [B, …], with these weights a in place of the gate's."""
        generator = self.generator
        return _finished(generator.trunk(generator.experts.mix(generator.stem(latent_BZ), weights_BK)))

    def probabilities(self, latent_BZ: Tensor) -> Tensor:
        """Return each expert's weight [B, K] for these latents; where the gate is hard, how likely it is chosen."""
        generator = self.generator
        return generator.gate.probabilities(latent_BZ, generator.stem(latent_BZ), generator.experts)

    def _latents(self, n: int, truncation: float | None) -> Tensor:
        """Draw latents with torch's random state, on the CPU, so that a seed means the same on every device."""
        latent_NZ = self.generator.latents(n, device="cpu")
        return latent_NZ if truncation is None else truncated(latent_NZ, self.prior, truncation)


def truncated(latent_NZ: Tensor, prior: Literal["normal", "uniform"], bound: float) -> Tensor:
    r"""Map draws [N, Z] from the prior to draws [N, Z] from it given |z| ≤ bound by coordinate, order and sign kept.

    Of N(0, 1): z ↦ \sqrt 2 erf^{-1}(erf(z/\sqrt 2) erf(bound/\sqrt 2)), for erf(z/\sqrt 2) is uniform on [-1, 1]. Of
    the uniform prior: z ↦ z min(bound, 1).

    Raises:
        ConfigError: the bound is not positive.
    """
    if not bound > 0:
        raise ConfigError(f"truncation={bound}: the largest |z| of a coordinate. Take a positive number, or null")
    if prior == "uniform":
        return latent_NZ * min(bound, 1.0)
    within = torch.erf(latent_NZ.double() / math.sqrt(2)) * math.erf(bound / math.sqrt(2))
    return (math.sqrt(2) * torch.erfinv(within)).clamp(-bound, bound).to(latent_NZ)


def _finished(samples: Tensor) -> Tensor:
    """Images as uint8, points as float32."""
    return to_uint8(samples) if samples.dim() == 4 else samples.float()
