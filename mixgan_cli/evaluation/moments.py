"""Mean and covariance of features, batch by batch, so that the memory of FID is constant in the number of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

MERGED = 1024
"""Samples that are merged at a time. A merge costs F² operations for any number of them."""


class Moments:
    """Mean [F] and covariance [F, F] of all features added, in float64.

    Batches are collected and then merged by the formula of Chan et al. 1979, which loses no digits if the mean is
    large.
    """

    def __init__(self) -> None:
        self.n = 0
        self._pending: list[Tensor] = []
        self._mean_F: Tensor | None = None
        self._scatter_FF: Tensor | None = None

    def add(self, features_NF: Tensor) -> Moments:
        """Add a batch of features on any device, and return self."""
        self._pending.append(features_NF)
        return self._merge() if sum(map(len, self._pending)) >= MERGED else self

    def _merge(self) -> Moments:
        if not self._pending:
            return self
        features_NF = torch.cat(self._pending).double()
        self._pending = []
        n, mean_F = len(features_NF), features_NF.mean(dim=0)
        centred_NF = features_NF - mean_F
        scatter_FF = centred_NF.T @ centred_NF
        if self._mean_F is None or self._scatter_FF is None:
            self.n, self._mean_F, self._scatter_FF = n, mean_F, scatter_FF
            return self
        total, step_F = self.n + n, mean_F - self._mean_F
        self._scatter_FF += scatter_FF + torch.outer(step_F, step_F) * (self.n * n / total)
        self._mean_F = self._mean_F + step_F * (n / total)
        self.n = total
        return self

    def state(self) -> dict[str, np.ndarray]:
        """Return the moments as arrays: n, mean [F], covariance [F, F] (unbiased).

        Raises:
            ValueError: there are fewer than two samples.
        """
        self._merge()
        if self.n < 2 or self._mean_F is None or self._scatter_FF is None:
            raise ValueError(f"{self.n} samples have no covariance")
        covariance_FF = self._scatter_FF / (self.n - 1)
        return {"n": np.array(self.n), "mean": self._mean_F.cpu().numpy(), "covariance": covariance_FF.cpu().numpy()}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> Moments:
        """Return moments from what `state` returned."""
        moments = cls()
        moments.n = int(arrays["n"])
        moments._mean_F = torch.from_numpy(arrays["mean"])
        moments._scatter_FF = torch.from_numpy(arrays["covariance"]) * (moments.n - 1)
        return moments


def least_bias(real: Moments, n_fake: int) -> float:
    """Return a lower bound on the mean Fréchet distance of two sets of real images, of n_fake and of real.n samples.

    The means of two sets with covariance Σ differ by tr Σ (1/n_fake + 1/n) on average. The covariances of finite sets
    differ, too, which comes on top: with fewer samples than features by much more.
    """
    return float(np.trace(real.state()["covariance"])) * (1 / n_fake + 1 / real.n)


def frechet(fake: Moments, real: Moments) -> float:
    """Return the Fréchet distance between the Gaussians with these moments (Heusel et al. 2017, eq. 6).

    Equal moments give a value around 0 by rounding; it is never negative.
    """
    one, other = fake.state(), real.state()
    step_F = one["mean"] - other["mean"]
    traces = np.trace(one["covariance"]) + np.trace(other["covariance"])
    return max(0.0, float(step_F @ step_F + traces - 2 * _trace_of_root(one["covariance"], other["covariance"])))


def _trace_of_root(left: np.ndarray, right: np.ndarray) -> float:
    """Return tr (left right)^½ of two covariances [F, F].

    With left = L Lᵀ, the product has the eigenvalues of the symmetric matrix Lᵀ right L, which take less time than
    those of the product itself.
    """
    left_FF, right_FF = torch.from_numpy(left), torch.from_numpy(right)
    root_FF, failed = torch.linalg.cholesky_ex(left_FF)
    if failed:  # with fewer samples than features it has eigenvalues of 0
        values_F, vectors_FF = torch.linalg.eigh(left_FF)
        root_FF = vectors_FF * values_F.clamp_min(0).sqrt()
    return float(torch.linalg.eigvalsh(root_FF.T @ right_FF @ root_FF).clamp_min(0).sqrt().sum())
