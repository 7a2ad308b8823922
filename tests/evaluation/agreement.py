"""Every metric written once more, in NumPy and loops from its paper, and the inputs on which both are compared.

    python -m tests.evaluation.agreement        prints the table of docs/evaluation.md

None of these functions uses torch, torch-fidelity or a file of mixgan_cli.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.linalg import eigh, norm
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.optimize import linprog
from scipy.special import logsumexp

from mixgan_cli.evaluation.metrics import classes, inception_score, kid, knn, mixture, ms_ssim, points, prc
from mixgan_cli.evaluation.moments import Moments, frechet
from mixgan_cli.objectives.diversity import jsd

FLOAT32 = {"precision, recall": 1e-5, "MS-SSIM": 1e-4}
"""Largest deviation allowed of what is computed in float32; that of the others is 1e-7."""
Array = NDArray[np.float64]


def fid(fake: Array, real: Array) -> float:
    """Heusel et al. 2017, eq. 6; tr √(AB) as tr √(√A B √A), which is symmetric (eigenvalues by LAPACK)."""
    a, b = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (fake, real))
    values, vectors = eigh(a)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    cross = np.sqrt(np.clip(eigh(root @ b @ root)[0], 0, None)).sum()
    step = fake.mean(axis=0) - real.mean(axis=0)
    return max(0.0, float(step @ step + np.trace(a) + np.trace(b) - 2 * cross))


def kernel_distance(fake: Array, real: Array) -> float:
    """Bińkowski et al. 2018, eq. 4 with k(x, y) = (x·y / F + 1)³, a pair at a time."""

    def kernel(x: Array, y: Array) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(fake), len(real)
    within_fake = sum(kernel(fake[i], fake[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_real = sum(kernel(real[i], real[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_fake + within_real - 2 * sum(kernel(x, y) for x in fake for y in real) / (n * m)


def exp_mean_kl(logits: Array) -> float:
    """Salimans et al. 2016: exp E KL(p(y|x) ‖ p(y)), of one split."""
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    log_marginal = logsumexp(log_p, axis=0) - np.log(len(logits))
    return float(np.exp(np.mean((np.exp(log_p) * (log_p - log_marginal)).sum(axis=1))))


def within_manifold(points: Array, manifold: Array, k: int = 3) -> float:
    """Kynkäänniemi et al. 2019, eq. 1: share of points within the k-NN ball of some sample of the manifold."""
    radii = [np.sort([norm(x - y) for y in manifold])[k] for x in manifold]
    return float(np.mean([any(norm(point - x) <= r for x, r in zip(manifold, radii, strict=True)) for point in points]))


def own_share(fake: Array, real: Array, k: int = 5) -> tuple[float, float]:
    """Mean share of the own kind among k neighbours; of equally far ones each counts by its chance to be chosen."""
    pool, kind = np.concatenate((fake, real)), np.repeat([0, 1], [len(fake), len(real)])
    shares = []
    for i in range(len(pool)):
        others = [j for j in range(len(pool)) if j != i]
        distance = np.array([((pool[i] - pool[j]) ** 2).sum() for j in others])
        same, last = np.array([kind[i] == kind[j] for j in others]), np.sort(distance)[k - 1]
        nearer, tied = distance < last * (1 - 1e-9), np.abs(distance - last) <= 1e-9 * last
        shares.append((same[nearer].sum() + (k - nearer.sum()) * same[tied].mean()) / k)
    return float(np.mean(shares[: len(fake)])), float(np.mean(shares[len(fake) :]))


def similarity(first: Array, second: Array) -> float:
    """MS-SSIM of [C, H, W] as in GAN papers: channels averaged at each scale, halved with a reflected border."""
    value = 1.0
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        terms = np.array([_ssim_terms(x, y) for x, y in zip(first, second, strict=True)]).mean(axis=0)
        value *= max(terms[0 if scale == 4 else 1], 0) ** exponent
        first, second = (
            np.stack([convolve(x, np.full((2, 2), 0.25), mode="reflect")[::2, ::2] for x in image])
            for image in (first, second)
        )
    return value


def _ssim_terms(x: Array, y: Array) -> tuple[float, float]:
    size = min(11, *x.shape)
    row = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * (1.5 * size / 11) ** 2))
    window = np.outer(row, row) / row.sum() ** 2
    ssim, contrast = [], []
    for top, left in np.ndindex(x.shape[0] - size + 1, x.shape[1] - size + 1):
        a, b = (image[top : top + size, left : left + size] for image in (x, y))
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        contrast.append((2 * (window * (a - mean_a) * (b - mean_b)).sum() + 58.5225) / (var_a + var_b + 58.5225))
        ssim.append((2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025) * contrast[-1])
    return float(np.mean(ssim)), float(np.mean(contrast))


def mean_similarity(images: Array) -> float:
    """Mean over pairs 2i, 2i + 1."""
    return float(np.mean([similarity(images[i], images[i + 1]) for i in range(0, len(images) - 1, 2)]))


def entropy(p: Array) -> float:
    """Entropy in nats."""
    return float(-sum(q * np.log(q) for q in np.ravel(p) if q > 0))


def joint(weights: Array, kinds: NDArray[np.int64], n: int) -> Array:
    """Joint distribution of experts and classes."""
    table = np.zeros((weights.shape[1], n))
    for row, kind in zip(weights, kinds, strict=True):
        table[:, kind] += row
    return table / table.sum()


def mutual_information(table: Array) -> float:
    """Mutual information over the mean entropy."""
    rows, columns = entropy(table.sum(axis=1)), entropy(table.sum(axis=0))
    return (rows + columns - entropy(table)) / ((rows + columns) / 2) if rows + columns > 0 else 1.0


def divergence(logits: Array, weights: Array) -> float:
    """H(usage) + E Σ a_k log C_k: what an expert's samples tell of the expert (Hoang et al. 2017, eq. 11)."""
    log_c = logits - logsumexp(logits, axis=1, keepdims=True)
    return entropy(weights.mean(axis=0)) + float((weights * log_c).sum(axis=1).mean())


def histogram(sample: Array, extent: float) -> Array:
    """Shares of a 50 × 50 grid; what is outside is in the nearest bin."""
    grid = np.zeros((50, 50))
    for x, y in sample:
        i, j = (int(min(max((value + extent) / (2 * extent) * 50, 0), 49)) for value in (x, y))
        grid[i, j] += 1 / len(sample)
    return grid


def symmetric_divergence(fake: Array, real: Array, extent: float) -> float:
    """KL(p‖q) + KL(q‖p) with 1e-5 added to each bin."""
    p, q = ((histogram(sample, extent) + 1e-5) / (1 + 2500e-5) for sample in (fake, real))
    return float((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum())


def transport(fake: Array, real: Array, extent: float) -> float:
    """Earth mover's distance between the histograms, as a linear program."""
    cells = [
        [(i, j, grid[i, j]) for i, j in np.argwhere(grid)] for grid in (histogram(s, extent) for s in (fake, real))
    ]
    costs = np.array([[norm([a - c, b - d]) for c, d, _ in cells[1]] for a, b, _ in cells[0]]) * 2 * extent / 50
    n, m = costs.shape
    sums = np.zeros((n + m, n * m))
    for i in range(n):
        sums[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        sums[n + j, j::m] = 1
    masses = [mass for side in cells for *_, mass in side]
    return float(linprog(costs.ravel(), A_eq=sums, b_eq=masses, method="highs").fun)


def modes(sample: Array, means: Array, stds: Array) -> tuple[int, float]:
    """Modes with a point within 3 σ that is nearest in σ, and the share of such points."""
    deviations = np.array([[norm(x - mean) / std for mean, std in zip(means, stds, strict=True)] for x in sample])
    good = deviations.min(axis=1) <= 3
    return len(set(deviations.argmin(axis=1)[good])), float(good.mean())


def feature_cases(rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """Return pairs of features [N, F], whole numbers where ties matter."""
    lattice = rng.integers(0, 3, (40, 3)).astype(float)
    return {
        "random": (rng.normal(0.3, 1.2, (60, 5)), rng.normal(0, 1, (50, 5))),
        "a large offset": (rng.normal(1000, 1, (60, 5)), rng.normal(1000.5, 1, (50, 5))),
        "fewer samples than features": (rng.normal(0, 1, (12, 30)), rng.normal(0.2, 1, (10, 30))),
        "ties": (lattice[:20], lattice[20:]),
        "constants": (np.full((20, 4), 7.0), np.full((20, 4), 7.0)),
        "equal sets": (lattice, lattice),
    }


def image_cases(rng: np.random.Generator) -> dict[str, Array]:
    """Return images [N, C, H, W] of whole numbers."""
    coarse = rng.integers(0, 256, (6, 3, 4, 4)).astype(float)
    smooth = np.clip(np.kron(coarse, np.ones((8, 8))) + rng.normal(0, 20, (6, 3, 32, 32)), 0, 255).round()
    return {
        "random": smooth,
        "odd sides": smooth[..., :28, :21],
        "constants": np.full((4, 1, 16, 16), 77.0),
        "black and white": np.stack([np.zeros((1, 16, 16)), np.full((1, 16, 16), 255.0)]),
    }


def weight_cases(rng: np.random.Generator) -> dict[str, tuple[Array, NDArray[np.int64], Array]]:
    """Return gate weights [N, K], classes [N] and logits of experts [N, K]."""
    soft = rng.dirichlet(np.ones(4), 50)
    return {
        "random": (soft, rng.integers(0, 6, 50), rng.normal(0, 2, (50, 4))),
        "one class": (soft, np.zeros(50, int), rng.normal(0, 2, (50, 4))),
        "one expert": (np.eye(4)[np.zeros(50, int)], rng.integers(0, 6, 50), np.zeros((50, 4))),
        "each expert a class": (np.eye(4)[np.arange(48) % 4], np.arange(48) % 4, 30 * np.eye(4)[np.arange(48) % 4]),
        "a wrong classifier": (np.eye(4)[np.arange(48) % 4], np.arange(48) % 4, 9 * np.eye(4)[(np.arange(48) + 1) % 4]),
    }


def point_cases(rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """Return pairs of points [N, 2]."""
    far = rng.normal(0, 1, (60, 2)) * 20
    return {
        "random": (rng.normal(0, 1, (60, 2)), rng.normal(0.5, 1, (70, 2))),
        "outside the window": (far, rng.normal(0, 1, (70, 2))),
        "one point": (np.zeros((30, 2)), rng.normal(0, 1, (70, 2))),
    }


def deviations() -> Iterator[tuple[str, str, float]]:
    """Yield metric, input and deviation, relative to the larger of the value and 1."""
    rng = np.random.default_rng(0)
    for name, (fake, real) in feature_cases(rng).items():
        of = tuple(torch.from_numpy(each) for each in (fake, real))
        yield "FID", name, _off(frechet(*(Moments().add(each) for each in of)), fid(fake, real))
        n = min(len(fake), len(real))  # else it is a mean over random subsets
        yield "KID", name, _off(kid.kid(of[0][:n], of[1][:n], 0)[0], kernel_distance(fake[:n], real[:n]))
        ours = prc.precision_recall(*(each.float() for each in of))
        yield "precision, recall", name, _off(ours, (within_manifold(fake, real), within_manifold(real, fake)))
        yield "5-NN test", name, _off(knn.two_sample_test(*of)[:2], own_share(fake, real))
        yield "Inception score", name, _off(inception_score.inception_score(of[0], 1, 0)[0], exp_mean_kl(fake))
    for name, images in image_cases(rng).items():
        ours = ms_ssim.mean_ms_ssim(torch.from_numpy(images).to(torch.uint8), "disjoint")[0]
        yield "MS-SSIM", name, _off(ours, mean_similarity(images))
    for name, (weights, kinds, logits) in weight_cases(rng).items():
        weights_BK = torch.from_numpy(weights)
        table, expected = classes.contingency(weights_BK, torch.from_numpy(kinds), 6), joint(weights, kinds, 6)
        right = (mutual_information(expected), expected.max(axis=1).sum())
        yield "NMI, purity", name, _off((classes.nmi(table), classes.purity(table)), right)
        usage = (mixture.gate_entropy(weights_BK), *mixture.expert_usage(weights_BK))
        right = (np.mean([entropy(row) for row in weights]), *weights.mean(axis=0))
        yield "gate entropy, usage", name, _off(usage, right)
        ours = jsd(torch.from_numpy(logits), weights_BK).item()
        yield "divergence of experts", name, _off(ours, divergence(logits, weights))
    means, stds = np.array([[0.0, 0.0], [2.0, 1.0], [9.0, 9.0]]), np.array([0.2, 0.5, 0.5])
    for name, (fake, real) in point_cases(rng).items():
        of = tuple(torch.from_numpy(each) for each in (fake, real))
        yield "symmetric KL", name, _off(points.symmetric_kl(*of, 3.0), symmetric_divergence(fake, real, 3.0))
        yield "Wasserstein distance", name, _off(points.wasserstein(*of, 3.0), transport(fake, real, 3.0))
        ours = points.modes(of[0], torch.from_numpy(means), torch.from_numpy(stds))
        yield "modes, high quality", name, _off(ours, modes(fake, means, stds))


def _off(ours: Any, expected: Any) -> float:
    ours, expected = np.asarray(ours, float), np.asarray(expected, float)
    return float((np.abs(ours - expected) / np.maximum(np.abs(expected), 1)).max())


def largest(found: Iterator[tuple[str, str, float]]) -> Mapping[str, tuple[list[str], float, str]]:
    """Return for each metric its inputs, the largest deviation, and the input with it."""
    table: dict[str, tuple[list[str], float, str]] = {}
    for metric, name, off in found:
        names, most, where = table.get(metric, ([], -1.0, ""))
        table[metric] = ([*names, name], max(most, off), name if off > most else where)
    return table


def main(write: Callable[[str], None] = print) -> None:
    """Print the table."""
    write("| metric | inputs | largest deviation |\n|---|---|---|")
    for metric, (names, most, _) in largest(deviations()).items():
        write(f"| {metric} | {', '.join(names)} | {most:.0e} |" if most else f"| {metric} | {', '.join(names)} | 0 |")


if __name__ == "__main__":
    main()
