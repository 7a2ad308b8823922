"""Penalties that are added to the discriminator's adversarial loss.

A penalty maps (score, real, fake) to a scalar, or to None if there is nothing to add. `score` is the function that maps
samples [N, …] to scores [N]. The numbers of real and generated samples may differ. A subclass of `InputGradientPenalty`
can be compiled. A penalty with `on_scores = True` maps the samples of one kind and the scores that the loss has for
them to a scalar, see `ZeroCentred`. A class may also have `constrain(parameters)`, which changes the discriminator's
parameters after each of its steps, and `check_discriminator(key, discriminator)`, which may refuse one. A new penalty
is a class with `__call__`, and the key `penalty` in an objective's YAML file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.func import vjp
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils.parametrize import is_parametrized

from mixgan_cli.config.components import class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.random import uniform

Score = Callable[[Tensor], Tensor]
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
"""Layers that may have learned scales."""


class NoPenalty:
    """No penalty for any real and fake samples [N, …]."""

    def __call__(self, score: Score, real: Tensor, fake: Tensor) -> Tensor | None:
        """Return None."""
        return None


class WeightClipping(NoPenalty):
    """No penalty: after each step, all weights and biases of the discriminator are clamped (Arjovsky et al. 2017).

    A critic with weights of [-bound, bound] has a bounded slope (algorithm 1).

    Args:
        bound: the largest absolute value, the paper's c = 0.01.
    """

    def __init__(self, bound: PositiveFloat) -> None:
        self.bound = bound

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the configuration gives the discriminator no norm, and the bound no schedule.

        Raises:
            ConfigError: it does.
        """
        if arguments.get("schedule"):
            raise ConfigError(f"{key}.schedule: {cls.__name__} has no weight that it could scale. Take null")
        backbone = run.model.backbone
        for name, none in (("discriminator_norm", "none"), ("spectral_norm", False)):
            if backbone.get(name, none) != none:
                raise ConfigError(f"model.backbone.{name}={backbone[name]}: {_clips_no_norm(cls.__name__)}")

    @classmethod
    def check_discriminator(cls, key: str, discriminator: nn.Module) -> None:
        """Check that the discriminator has neither learned scales of a norm nor weights that a norm computes.

        Raises:
            ConfigError: it has.
        """
        for module in discriminator.modules():
            scaled = isinstance(module, NORMS) and module.weight is not None
            if scaled or is_parametrized(module):
                raise ConfigError(f"{key}: {_clips_no_norm(cls.__name__)}")

    @torch.no_grad()
    def constrain(self, parameters: Iterable[Tensor]) -> None:
        """Clamp parameters of any shape in place. Nothing waits for the device."""
        weights = list(parameters)
        torch._foreach_clamp_min_(weights, -self.bound)
        torch._foreach_clamp_max_(weights, self.bound)


class InputGradientPenalty(ABC):
    """A function of the gradient of the score with respect to the samples, at some points."""

    per_sample = True
    """True: the penalty assumes that the score of a sample does not depend on others, which batch norm breaks."""

    def __call__(self, score: Score, real: Tensor, fake: Tensor) -> Tensor:
        """Return the penalty for real and fake samples [N, …], a scalar. Its gradient goes through ∇D."""
        return self.at(score, self.points(real, fake))

    def at(self, score: Score, points: Tensor) -> Tensor:
        """Return the penalty at these points [N, …], a scalar. This draws no random numbers, and can be compiled."""
        if torch.compiler.is_compiling():  # torch.compile knows vjp, under which batch norm may not count its passes
            scores_N, pull = cast(tuple[Tensor, Callable[[Tensor], tuple[Tensor]]], vjp(score, points))
            (gradient,) = pull(torch.ones_like(scores_N))
        else:
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(score(points).sum(), points, create_graph=True)
        return self.of_gradient(gradient)

    @abstractmethod
    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the points [N, …] at which the gradient is taken, for real and fake samples [N, …]."""

    @abstractmethod
    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Return the penalty of the gradient [N, …], a scalar."""


class GradientPenalty(InputGradientPenalty):
    r"""weight · E (‖∇D(x̂)‖₂ - 1)², x̂ = x + α (G(z) - x), α ~ U(0, 1) per sample (Gulrajani et al. 2017, eq. 3).

    With `norm: sample`, the gradient's norm is over the whole sample, as in the paper. With `norm: pixel`, it is over
    the channels only, at each pixel, as in both of the HMoG author's repositories. For points the two are the same.
    With `one_sided`, only norms above 1 are penalised: max(0, ‖∇D(x̂)‖₂ - 1)² (section 4 of the paper; DMGAN's code).
    Samples are [N, …], their scores [N].
    """

    def __init__(self, weight: float, norm: Literal["sample", "pixel"], one_sided: bool = False) -> None:
        self.weight, self.norm, self.one_sided = weight, norm, one_sided

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return points [N, …] between pairs of real and fake samples [N, …]."""
        real, fake = _pairs(real, fake)
        alpha = uniform(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        return torch.lerp(real, fake, alpha)

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Return the weighted penalty of the gradient [N, …], a scalar."""
        if self.norm == "sample":
            gradient = gradient.flatten(1)
        excess = gradient.norm(dim=1) - 1
        return self.weight * (excess.relu() if self.one_sided else excess).square().mean()


class R1(InputGradientPenalty):
    r"""weight / 2 · E ‖∇D(x)‖² over real samples x: the zero-centred penalty R_1 (Mescheder et al. 2018, eq. 9).

    Args:
        weight: the paper's gamma.
        share: the share of each batch's real samples over which the mean is taken: every n-th one, n the nearest
            integer to 1 / share, but at least two, for batch norm. The cost is proportional to it, and the expectation
            does not depend on it.

    Samples are [N, …], their scores [N].
    """

    def __init__(self, weight: float, share: Annotated[float, Field(gt=0, le=1)] = 1.0) -> None:
        self.weight, self.share = weight, share

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return every n-th real sample [N, …]."""
        every = min(round(1 / self.share), max(1, len(real) * distributed.sync_size() // 2))
        return real[::every]  # the same ones for any number of ranks

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Return the weighted penalty of the gradient [N, …], a scalar."""
        return zero_centred(self.weight, gradient)


class ZeroCentred:
    r"""weight / 2 · (E ‖∇D(x)‖² + E ‖∇D(G(z))‖²), R_1 and R_2 of R3GAN (Huang et al. 2024, eq. 3).

    The squared norm is the sum over all axes of a sample. The gradient is that with respect to the samples before any
    augmentation T, through D(T(x)), and of the scores that the adversarial loss uses, so it costs no passes of its own.

    Args:
        weight: the paper's gamma.
        real: if true, add R_1, at the real samples.
        fake: if true, add R_2, at the generated samples.
    """

    per_sample = True
    """True: the penalty assumes that the score of a sample does not depend on others, which batch norm breaks."""
    refuses_batch_norm = True
    """True: the sum of all scores has the gradients of the single scores only if a sample has no effect on others."""
    on_scores = True
    """True: it is called with samples and their scores, once for the real and once for the generated samples."""

    def __init__(self, weight: NonNegativeFloat, real: bool = True, fake: bool = True) -> None:
        self.weight, self.real, self.fake = weight, real, fake

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the configuration gives the discriminator no batch norm.

        Raises:
            ConfigError: it does.
        """
        norm = str(run.model.backbone.get("discriminator_norm"))
        if norm.startswith("batch"):
            raise ConfigError(f"model.backbone.discriminator_norm={norm}: {no_batch_norm(cls.__name__)}")

    def __call__(self, samples: Tensor, scores_N: Tensor, generated: bool) -> Tensor | None:
        """Return the weighted penalty on samples [N, …] with these scores, a scalar; None: not on samples of this kind.

        Its gradient goes through ∇D.
        """
        if not (self.fake if generated else self.real):
            return None
        (gradient,) = torch.autograd.grad(scores_N.sum(), samples, create_graph=True)
        return zero_centred(self.weight, gradient)


def zero_centred(weight: float, gradient: Tensor) -> Tensor:
    """Return weight / 2 · E ‖g‖² of the gradients g [N, …] of N samples, a scalar (Mescheder et al. 2018, eq. 9)."""
    return weight / 2 * gradient.flatten(1).square().sum(dim=1).mean()


def no_batch_norm(penalty: str) -> str:
    """Return why a penalty refuses batch norm, and what to do."""
    return (
        f"{class_name(penalty)} takes the gradient of each sample's own score, and with batch norm in the "
        "discriminator it depends on the other samples. Take model.backbone.discriminator_norm=none or layer, or "
        "another model/backbone"
    )


def _clips_no_norm(name: str) -> str:
    """Return why weight clipping refuses a norm, and what to do."""
    return (
        f"{name} clamps all of the discriminator's weights: the scales of a norm would shrink with them, and spectral "
        "norm would undo it. Take model.backbone.discriminator_norm=none and spectral_norm=false, or "
        "objective=wgan_gp"
    )


def _pairs(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return equal numbers of real and fake samples. Of more fakes, a random subset: they are ordered by expert."""
    if len(fake) == len(real):
        return real, fake
    n = min(len(fake), len(real))
    return real[:n], fake[uniform(len(fake), device=fake.device).argsort()[:n]]
