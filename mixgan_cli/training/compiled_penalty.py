"""The gradient penalty compiled as a whole: forward pass, first and second derivative in fewer kernels.

On a GPU, the penalty takes most kernels and bytes of an iteration with WGAN-GP. `torch.compile` fuses them, if the
machine has Triton and a C compiler. Each run checks that compiled code gives the value and the gradient of the
operations run one by one, before it uses it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mixgan_cli.models.networks import Discriminator
from mixgan_cli.objectives.penalties import InputGradientPenalty, Score
from mixgan_cli.runtime.device import Compute

log = logging.getLogger("mixgan")

TOLERANCE = {"float32": 1e-4, "tf32": 1e-2, "bf16": 1e-2}
"""Largest relative difference of the penalty and of its gradient, by precision.

With tf32 and bf16, the penalty's products are in TF32, which has 10 bits of mantissa.
"""
WORTH = 20_000
"""Critic steps of a run from which `hardware.compile=auto` compiles, because compilation may take a minute."""


def maybe_compile(penalty: Any, discriminator: Discriminator, compute: Compute, steps: int) -> Any:
    """Return the compiled penalty, or the penalty itself if it is not to be compiled or cannot be.

    Args:
        penalty: the objective's penalty.
        discriminator: the network whose score the penalty gets.
        compute: the device, and if code is compiled.
        steps: the number of critic steps of the run.
    """
    wanted = compute.compile is True or (compute.compile == "auto" and steps >= WORTH)
    stateless = not any(True for _ in discriminator.buffers())  # batch norm and spectral norm change in each pass
    own_call = isinstance(penalty, InputGradientPenalty) and type(penalty).__call__ is InputGradientPenalty.__call__
    if wanted and stateless and own_call:
        torch.compiler.reset()  # the runs of a sweep in one process share code, which torch compiles a few times only
        return CompiledPenalty(penalty, discriminator, TOLERANCE[compute.precision])
    return penalty


class CompiledPenalty:
    """A penalty of a discriminator. The first call compiles and checks it; if this fails, it runs as it is.

    Args:
        penalty: the penalty.
        discriminator: the network whose score it gets.
        tolerance: the largest relative difference of the value and of the gradient of each parameter.
    """

    def __init__(self, penalty: InputGradientPenalty, discriminator: Discriminator, tolerance: float) -> None:
        self.penalty, self.discriminator, self.tolerance = penalty, discriminator, tolerance
        self._at: Any = None

    def __call__(self, score: Score, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty for real and fake samples [N, …], a scalar. `score` must be the discriminator's."""
        points = self.penalty.points(real, fake)
        if self._at is None:
            self._at = self._checked(points) or partial(self.penalty.at, score)
        value: Tensor = self._at(points)
        return value

    def _checked(self, points: Tensor) -> Any:
        """Return the compiled function of the points [N, …], or None if it cannot be used, with a line in the log."""
        compiled = torch.compile(partial(self.penalty.at, self._score), dynamic=False, fullgraph=True)
        try:
            difference = self._difference(compiled, partial(self.penalty.at, self.discriminator.score), points)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no C compiler, no Triton, a layer that cannot be compiled
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            log.info("the gradient penalty is not compiled (%s)", reason)
            return None
        if not difference <= self.tolerance:
            log.warning("warning: the compiled gradient penalty differs by %.2g. It is not used", difference)
            return None
        log.info("the gradient penalty is compiled (hardware.compile=false runs its operations one by one)")
        return compiled

    def _difference(self, compiled: Any, plain: Any, points: Tensor) -> float:
        """Return the largest relative difference of two functions of points [N, …]; NaN if one is not finite."""
        parameters = list(self.discriminator.parameters())
        results = []
        for function in (compiled, plain):
            value = function(points)
            gradients = torch.autograd.grad(value, parameters, allow_unused=True)
            results.append([value.detach(), *(gradient for gradient in gradients if gradient is not None)])
        pairs = zip(*results, strict=True)
        return torch.stack([(one - other).norm() / other.norm().clamp_min(1e-30) for one, other in pairs]).max().item()

    def _score(self, samples: Tensor) -> Tensor:
        scores_N: Tensor = self.discriminator(samples).scores_N  # without the change of stance, which is not compiled
        return scores_N
