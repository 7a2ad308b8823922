"""The sampler: draws samples from a trained generator, for evaluation, the sample command and users' own code."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from mixgan_cli.data.images import to_uint8
from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.models.layers import batch_statistics
from mixgan_cli.models.networks import Generator, GeneratorOutput
from mixgan_cli.runtime.random import fork_seed

SAMPLE_BATCH = 256
"""Samples per forward pass. Fixed, because a uniform gate assigns the experts of each batch."""


class Sampler(nn.Module):
    """A trained generator. It samples in eval mode, so that a sample does not depend on the others of its batch.

    The exception is `draw` with `norm_batch`.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    @property
    def k(self) -> int:
        """The number of experts."""
        return self.generator.k

    @property
    def hard(self) -> bool:
        """True if each sample comes from a single expert."""
        return self.generator.gate.hard

    @property
    def latent_size(self) -> int:
        """Z, the number of coordinates of a latent."""
        return self.generator.latent_size

    @property
    def prior(self) -> Literal["normal", "uniform"]:
        """The distribution of each coordinate of the latents: N(0, 1), or uniform on [-1, 1]."""
        return self.generator.prior

    def sample(self, n: int, seed: int = 0, expert: int | None = None, truncation: float | None = None) -> Tensor:
        """Return n samples: images uint8 [n, C, H, W], or points float32 [n, D]; on the CPU.

        Args:
            n: the number of samples.
            seed: the seed of the latents and of the expert choices; the same seed gives the same samples.
            expert: the number of a single expert to use, 0 … K - 1; None: the mixture.
            truncation: the largest |z| of a coordinate, see `latents`.

        Raises:
            ConfigError: there is no expert with this number, or the truncation is not positive.
            RunError: a sample is not finite.
        """
        return self.draw(n, seed, expert, truncation).samples

    @torch.no_grad()
    def draw(
        self,
        n: int,
        seed: int,
        expert: int | None = None,
        truncation: float | None = None,
        norm_batch: int | None = None,
    ) -> GeneratorOutput:
        """Return samples as `sample` does, together with the gate's weights [n, K].

        With `norm_batch`, batch norm uses the statistics of each batch of so many samples instead of its moving
        averages, as in MEGAN's released code.

        Raises:
            ConfigError: see `sample`.
            RunError: a sample is not finite, which as uint8 would be a black pixel.
        """
        was_training = self.generator.training
        self.generator.eval()
        drawn = math.ceil(n / norm_batch) * norm_batch if norm_batch else n  # whole batches
        try:
            with fork_seed("sample", seed), batch_statistics(self.generator) if norm_batch else nullcontext():
                batches = self._latents(drawn, truncation).split(norm_batch or SAMPLE_BATCH)
                outputs = [self.generator(latent_BZ.to(self.generator.device), expert) for latent_BZ in batches]
        finally:
            self.generator.train(was_training)
        if not all(output.samples.isfinite().all() for output in outputs):
            raise RunError("the samples are not finite: the generator has diverged. Take an earlier checkpoint")
        samples = torch.cat([_to_output(output.samples).cpu() for output in outputs])
        weights = torch.cat([output.weights_BK.float().cpu() for output in outputs])
        return GeneratorOutput(samples[:n], weights[:n])

    def latents(self, n: int, seed: int = 0, truncation: float | None = None) -> Tensor:
        """Return the latents [n, Z] of the samples that `sample` draws with this seed, on the CPU.

        Args:
            n: the number of latents.
            seed: their seed.
            truncation: the largest |z| of a coordinate: the latents are distributed as if larger coordinates were drawn
                again (Brock et al. 2019). Smaller values give more typical, less diverse samples; for a fixed seed,
                samples change smoothly with the value. None: no truncation.

        Raises:
            ConfigError: the truncation is not positive.
        """
        with fork_seed("sample", seed):
            return self._latents(n, truncation)

    def forward(self, latent_BZ: Tensor, expert: int | None = None) -> Tensor:
        """Return samples of these latents, uint8 [B, C, H, W] or points [B, D], by the mixture or a single expert."""
        return _to_output(self.generator(latent_BZ, expert).samples)

    def mix(self, latent_BZ: Tensor, weights_BK: Tensor) -> Tensor:
        r"""Return the samples trunk(\sum_k a_k G_k(z)), [B, …], with the given weights a instead of the gate's."""
        generator = self.generator
        return _to_output(generator.trunk(generator.experts.mix(generator.stem(latent_BZ), weights_BK)))

    def probabilities(self, latent_BZ: Tensor) -> Tensor:
        """Return the gate's weights [B, K] for these latents; for a hard gate, the probability of each expert."""
        generator = self.generator
        return generator.gate.probabilities(latent_BZ, generator.stem(latent_BZ), generator.experts)

    def _latents(self, n: int, truncation: float | None) -> Tensor:
        """Draw latents on the CPU, so that a seed gives the same latents on every device."""
        latent_NZ = self.generator.latents(n, device="cpu")
        return latent_NZ if truncation is None else truncate(latent_NZ, self.prior, truncation)


def truncate(latent_NZ: Tensor, prior: Literal["normal", "uniform"], bound: float) -> Tensor:
    r"""Map draws [N, Z] from the prior to draws [N, Z] from the prior given |z| ≤ bound in each coordinate.

    The map is monotonic and odd, so the order and the signs of coordinates stay. For N(0, 1) it is
    z ↦ \sqrt 2 erf^{-1}(erf(z/\sqrt 2) erf(bound/\sqrt 2)), because erf(z/\sqrt 2) is uniform on [-1, 1]. For the
    uniform prior it is z ↦ z min(bound, 1).

    Raises:
        ConfigError: the bound is not positive.
    """
    if not bound > 0:
        raise ConfigError(
            f"truncation={bound}: the largest |z| of a coordinate must be positive. Take a positive number, or null"
        )
    if prior == "uniform":
        return latent_NZ * min(bound, 1.0)
    within = torch.erf(latent_NZ.double() / math.sqrt(2)) * math.erf(bound / math.sqrt(2))
    return (math.sqrt(2) * torch.erfinv(within)).clamp(-bound, bound).to(latent_NZ)


def _to_output(samples: Tensor) -> Tensor:
    """Return images [B, C, H, W] as uint8, points [B, D] as float32."""
    return to_uint8(samples) if samples.dim() == 4 else samples.float()
