"""Analyses of a mixture, as tensors: averages, densities of nodes, top samples, covariance and interpolations.

Averages of nodes and leaves, top samples of each leaf and the covariance of the leaves' weights follow the HMoG thesis
(Ahmetoglu & Alpaydin 2020, "Interpretation").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mixgan_cli.data.images import to_uint8
from mixgan_cli.data.packed import Packed
from mixgan_cli.models.networks import Generator
from mixgan_cli.models.sampler import SAMPLE_BATCH, Sampler
from mixgan_cli.runtime.random import fork_seed

MAX_ROWS = 8
"""Largest number of experts, or of pairs of experts, whose samples are interpolated."""
MAX_POOL = 100_000
"""Largest number of training images that are searched for neighbours."""


def expert_averages(images_NCHW: Tensor, weights_NK: Tensor) -> Tensor:
    r"""Return each expert's average image, \sum_n a_k(z_n) x_n / \sum_n a_k(z_n), float64 [K, C, H, W].

    The average of an expert without any weight is 0.
    """
    weights_NK = weights_NK.double()
    sums = torch.einsum("nk,nchw->kchw", weights_NK, images_NCHW.double())
    return sums / weights_NK.sum(dim=0).clamp_min(torch.finfo(torch.float64).tiny)[:, None, None, None]


def node_densities(weights_NK: Tensor) -> list[Tensor]:
    """Return the densities of a binary tree's nodes level by level, [N, 1], [N, 2], …, [N, K].

    A node's density is the sum of its leaves' weights, which are ordered from left to right.
    """
    depth = weights_NK.shape[1].bit_length() - 1
    return [weights_NK.unflatten(1, (2**level, -1)).sum(dim=2) for level in range(depth + 1)]


def weight_covariance(weights_NK: Tensor) -> Tensor:
    """Return the covariance of the experts' weights over samples, unbiased (N - 1), float64 [K, K]."""
    return weights_NK.double().T.cov().reshape(weights_NK.shape[1], -1)


@torch.no_grad()
def draw_weights(sampler: Sampler, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return n latents [n, Z] and the experts' weights for them [n, K], without generating images."""
    with _eval_mode(sampler) as generator, fork_seed("weighed", seed):
        latent_NZ = generator.latents(n, device="cpu").to(generator.device)
        weights = [generator.weights(latent_BZ).weights_BK.cpu() for latent_BZ in latent_NZ.split(SAMPLE_BATCH)]
    return latent_NZ, torch.cat(weights)


@torch.no_grad()
def top_samples(sampler: Sampler, n: int, each: int, seed: int) -> Tensor:
    """Return, for each expert, the mixture's images of the latents with that expert's largest weights, largest first.

    The thesis takes 5 of 10,000 latents for each leaf.

    Args:
        sampler: a generator with a soft gate.
        n: number of latents drawn.
        each: images per expert.
        seed: seed of the latents.

    Returns:
        uint8 [K, each, C, H, W], on the CPU.
    """
    latent_NZ, weights_NK = draw_weights(sampler, n, seed)
    with _eval_mode(sampler) as generator:
        chosen_EK = weights_NK.topk(min(each, n), dim=0).indices
        images = _generate(generator, latent_NZ[chosen_EK.T.flatten()])
    return images.unflatten(0, (sampler.k, -1))


def nearest_images(images_NCHW: Tensor, pool: Packed, k: int) -> tuple[Tensor, Tensor]:
    """Return the images of a set, among its first MAX_POOL, that are nearest to each image in pixels, with distances.

    Args:
        images_NCHW: uint8 images.
        pool: the set, of at least k images.
        k: number of neighbours.

    Returns:
        Neighbours uint8 [N, k, C, H, W], the nearest first, and distances [N, k]: the root of the mean squared
        difference of the pixels, from 0 to 255.
    """
    flat_ND = images_NCHW.flatten(1).float()
    distances, numbers = flat_ND.new_empty(len(flat_ND), 0), torch.empty(len(flat_ND), 0, dtype=torch.long)
    for rows_B in torch.arange(min(len(pool), MAX_POOL)).split(SAMPLE_BATCH):
        here = torch.cdist(flat_ND, pool[rows_B].flatten(1).float(), compute_mode="donot_use_mm_for_euclid_dist")
        both, all_numbers = torch.cat((distances, here), 1), torch.cat((numbers, rows_B.expand(len(flat_ND), -1)), 1)
        distances, order = both.topk(min(k, both.shape[1]), largest=False)
        numbers = all_numbers.gather(1, order)
    return pool[numbers.flatten()].unflatten(0, numbers.shape), distances / flat_ND.shape[1] ** 0.5


@torch.no_grad()
def interpolate_within(sampler: Sampler, steps: int, seed: int) -> Tensor:
    """Interpolate between two latents, for each of the first MAX_ROWS experts alone; a soft gate adds the mixture.

    Returns:
        uint8 [rows, steps, C, H, W], on the CPU.
    """
    with _eval_mode(sampler) as generator, fork_seed("path", seed):
        ends_2Z = generator.latents(2, device="cpu").to(generator.device)
        path_TZ = latent_path(ends_2Z[0], ends_2Z[1], steps, spherical=generator.prior == "normal")
        alone = [to_uint8(generator(path_TZ, expert).samples) for expert in range(min(sampler.k, MAX_ROWS))]
        mixed = [] if sampler.hard or sampler.k == 1 else [to_uint8(generator(path_TZ).samples)]
        return torch.stack([*alone, *mixed]).cpu()


@torch.no_grad()
def interpolate_across(sampler: Sampler, steps: int, seed: int) -> Tensor:
    """Interpolate from each expert to the next at one latent, for the first MAX_ROWS pairs.

    The weights go from expert i's (1, 0) to expert i + 1's (0, 1), regardless of the gate. If the experts are whole
    networks, their images are blended.

    Returns:
        uint8 [pairs, steps, C, H, W], on the CPU.
    """
    rows = []
    with _eval_mode(sampler) as generator, fork_seed("path", seed):
        inputs = generator.stem(generator.latents(1, device="cpu").to(generator.device))
        inputs = inputs.expand(steps, *inputs.shape[1:])
        share_T = torch.linspace(0, 1, steps, device=generator.device)
        for expert in range(min(sampler.k - 1, MAX_ROWS)):
            weights_TK = inputs.new_zeros(steps, sampler.k)
            weights_TK[:, expert], weights_TK[:, expert + 1] = 1 - share_T, share_T
            rows.append(to_uint8(generator.trunk(generator.experts.mix(inputs, weights_TK))))
    return torch.stack(rows).cpu()


def latent_path(first_Z: Tensor, last_Z: Tensor, steps: int, spherical: bool) -> Tensor:
    r"""Return latents [T, Z] from the first to the last in equal steps, both ends included.

    The path is straight, or a great circle: sin((1 - t) \omega)/sin \omega first + sin(t \omega)/sin \omega last, with
    \omega the angle between the ends. On a straight path, latents of N(0, I) are too short in the middle (White 2016,
    eq. 1).
    """
    share_T1 = torch.linspace(0, 1, steps, device=first_Z.device).unsqueeze(1)
    if not spherical:
        return torch.lerp(first_Z, last_Z, share_T1)
    cosine = torch.cosine_similarity(first_Z, last_Z, dim=0)
    angle = cosine.clamp(-1, 1).acos()
    if angle.sin() < 1e-4:  # nearly parallel: the great circle is not unique
        return torch.lerp(first_Z, last_Z, share_T1)
    return (((1 - share_T1) * angle).sin() * first_Z + (share_T1 * angle).sin() * last_Z) / angle.sin()


@contextmanager
def _eval_mode(sampler: Sampler) -> Iterator[Generator]:
    """Yield the generator in eval mode, and restore its mode afterwards."""
    generator, was_training = sampler.generator, sampler.generator.training
    generator.eval()
    try:
        yield generator
    finally:
        generator.train(was_training)


def _generate(generator: Generator, latent_NZ: Tensor) -> Tensor:
    return torch.cat([to_uint8(generator(latent_BZ).samples).cpu() for latent_BZ in latent_NZ.split(SAMPLE_BATCH)])
