"""What a mixture learned, in tensors: what a node makes, who is surest of what, who works with whom, what is between.

After the analyses of the HMoG thesis (Ahmetoglu & Alpaydin 2019, "Interpretation"): node and leaf averages, top samples
of each leaf, covariance of the leaves' weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mixgan_cli.data.images import to_uint8
from mixgan_cli.models.networks import Generator
from mixgan_cli.models.sampler import BLOCK, Sampler
from mixgan_cli.runtime.random import fork_seed

ROWS = 8
"""Experts, or pairs of them, whose samples are interpolated."""


def averages(images_NCHW: Tensor, weights_NK: Tensor) -> Tensor:
    r"""Return what each expert makes on average, \sum_n a_k(z_n) x_n / \sum_n a_k(z_n), float64 [K, C, H, W].

    Where an expert has no weight at all, the average is 0.
    """
    weights_NK = weights_NK.double()
    sums = torch.einsum("nk,nchw->kchw", weights_NK, images_NCHW.double())
    return sums / weights_NK.sum(dim=0).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None, None]


def levels(weights_NK: Tensor) -> list[Tensor]:
    """Return the densities of a binary tree's nodes level by level, [N, 1], [N, 2], …, [N, K].

    A node's density is the sum of its leaves' weights, which stand from left to right.
    """
    depth = weights_NK.shape[1].bit_length() - 1
    return [weights_NK.unflatten(1, (2**level, -1)).sum(dim=2) for level in range(depth + 1)]


def covariance(weights_NK: Tensor) -> Tensor:
    """Return the covariance of the experts' weights over samples, unbiased (N - 1), float64 [K, K]."""
    return weights_NK.double().T.cov().reshape(weights_NK.shape[1], -1)


@torch.no_grad()
def weighed(sampler: Sampler, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return n latents [n, Z] and the experts' weights for them [n, K]; no images are made."""
    with _still(sampler) as generator, fork_seed("weighed", seed):
        latent_NZ = generator.latents(n, device="cpu").to(generator.device)
        weights = [generator.weights(latent_BZ).weights_BK.cpu() for latent_BZ in latent_NZ.split(BLOCK)]
    return latent_NZ, torch.cat(weights)


@torch.no_grad()
def top_samples(sampler: Sampler, n: int, each: int, seed: int) -> Tensor:
    """Return for each expert the images of those latents that it has the largest weights for, the largest first.

    The mixture makes them, not the expert alone (thesis: 10,000 latents, 5 for each leaf).

    Args:
        sampler: of a soft gate.
        n: latents drawn.
        each: images an expert.
        seed: of the latents.

    Returns:
        uint8 [K, each, C, H, W], on the CPU.
    """
    latent_NZ, weights_NK = weighed(sampler, n, seed)
    with _still(sampler) as generator:
        chosen_EK = weights_NK.topk(min(each, n), dim=0).indices
        images = _made(generator, latent_NZ[chosen_EK.T.flatten()])
    return images.unflatten(0, (sampler.k, -1))


@torch.no_grad()
def within_experts(sampler: Sampler, steps: int, seed: int) -> Tensor:
    """Return what lies between two latents for the first ROWS experts, each alone; of a soft gate then for the mixture.

    Returns:
        uint8 [rows, steps, C, H, W], on the CPU.
    """
    with _still(sampler) as generator, fork_seed("path", seed):
        ends_2Z = generator.latents(2, device="cpu").to(generator.device)
        path_TZ = path(ends_2Z[0], ends_2Z[1], steps, spherical=generator.prior == "normal")
        alone = [to_uint8(generator(path_TZ, expert).samples) for expert in range(min(sampler.k, ROWS))]
        mixed = [] if sampler.hard or sampler.k == 1 else [to_uint8(generator(path_TZ).samples)]
        return torch.stack([*alone, *mixed]).cpu()


@torch.no_grad()
def across_experts(sampler: Sampler, steps: int, seed: int) -> Tensor:
    """Return what lies between one expert and the next at one latent, for the first ROWS pairs.

    The weights run from expert i's (1, 0) to expert i + 1's (0, 1), whatever the gate would say of this latent; where
    experts are whole networks their images are blended.

    Returns:
        uint8 [pairs, steps, C, H, W], on the CPU.
    """
    rows = []
    with _still(sampler) as generator, fork_seed("path", seed):
        inputs = generator.stem(generator.latents(1, device="cpu").to(generator.device))
        inputs = inputs.expand(steps, *inputs.shape[1:])
        share_T = torch.linspace(0, 1, steps, device=generator.device)
        for expert in range(min(sampler.k - 1, ROWS)):
            weights_TK = inputs.new_zeros(steps, sampler.k)
            weights_TK[:, expert], weights_TK[:, expert + 1] = 1 - share_T, share_T
            rows.append(to_uint8(generator.trunk(generator.experts.mix(inputs, weights_TK))))
    return torch.stack(rows).cpu()


def path(first_Z: Tensor, last_Z: Tensor, steps: int, spherical: bool) -> Tensor:
    r"""Return the latents [T, Z] from one to another in equal steps, ends included.

    Straight, or along a great circle, sin((1 - t) \omega)/sin \omega first + sin(t \omega)/sin \omega last, \omega the
    angle between them: on the straight line N(0, I)'s latents would be too short in the middle (White 2016, eq. 1).
    """
    share_T1 = torch.linspace(0, 1, steps, device=first_Z.device).unsqueeze(1)
    if not spherical:
        return torch.lerp(first_Z, last_Z, share_T1)
    cosine = torch.cosine_similarity(first_Z, last_Z, dim=0)
    angle = cosine.clamp(-1, 1).acos()
    if angle.sin() < 1e-4:  # as good as parallel: there is no one great circle
        return torch.lerp(first_Z, last_Z, share_T1)
    return (((1 - share_T1) * angle).sin() * first_Z + (share_T1 * angle).sin() * last_Z) / angle.sin()


@contextmanager
def _still(sampler: Sampler) -> Iterator[Generator]:
    """Give the generator in eval mode, and let it go on in the mode it was in."""
    generator, was_training = sampler.generator, sampler.generator.training
    generator.eval()
    try:
        yield generator
    finally:
        generator.train(was_training)


def _made(generator: Generator, latent_NZ: Tensor) -> Tensor:
    return torch.cat([to_uint8(generator(latent_BZ).samples).cpu() for latent_BZ in latent_NZ.split(BLOCK)])
