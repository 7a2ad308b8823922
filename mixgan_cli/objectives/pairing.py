"""Pairs of real and generated samples, for losses that compare their scores (Huang et al. 2024).

With one generator, sample i of the real batch is paired with sample i of the generated batch. The pairs for K experts
are our own choice: the paper has one generator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair(real_N: Tensor, fake_M: Tensor, experts: int = 1, per_expert: bool = False) -> tuple[Tensor, Tensor]:
    """Return the scores of pairs of a real and a generated sample, [P] and [P], on the device.

    If the numbers differ, the scores of the smaller batch are used again from its start: P = max(N, M). If the
    generated batch has a part for each expert, the experts take turns: of K consecutive pairs, each expert has one. The
    expert of the first pair is drawn at each call, so that no expert always meets the same real samples.

    Args:
        real_N: scores of real samples.
        fake_M: scores of generated samples.
        experts: number of equal, consecutive parts of the generated samples, one for each expert.
        per_expert: if true, each expert's part is paired with all real samples (MAD-GAN's number of fakes), so that
            each pair weighs 1/K of one of a single generator.
    """
    if per_expert:
        parts = [_repeated(real_N, part) for part in fake_M.chunk(experts)]
        return torch.cat([real for real, _ in parts]), torch.cat([fake for _, fake in parts])
    if experts > 1:
        fake_KF = fake_M.unflatten(0, (experts, -1))
        # Not `runtime.random`: synchronised ranks have one random state, and all need the same expert.
        first = torch.randint(experts, (1,), device=fake_M.device)
        order_K = (torch.arange(experts, device=fake_M.device) + first) % experts
        fake_M = fake_KF[order_K].t().flatten()
    return _repeated(real_N, fake_M)


def _repeated(real_N: Tensor, fake_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return both batches with the length of the larger one."""
    length = max(len(real_N), len(fake_M))
    real_P, fake_P = (scores.repeat(-(-length // len(scores)))[:length] for scores in (real_N, fake_M))
    return real_P, fake_P
