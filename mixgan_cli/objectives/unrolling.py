"""Unrolling: steps of the discriminator through which the generator's loss is differentiated (Metz et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from mixgan_cli.config.components import TARGET, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError

Parameters = Mapping[str, Tensor]
"""Parameters by name, of any shape."""
TINY = 1e-24
"""Added below a root, whose derivative at 0 is infinite."""


class Unrolling:
    r"""k differentiable steps of the discriminator before the generator's loss (Metz et al. 2017, section 2.2).

    \theta^{j+1} = \theta^j - \eta ∇L_D(\theta^j) for j < k, on one batch of real and one of generated samples. The
    generator minimises its loss at \theta^k, also through the steps; the discriminator's own steps are the usual ones.
    The cost is that of k more discriminator steps with second derivatives.

    Args:
        steps: k; 0 is the usual loss.
        rule: sgd: the equation above; adam: Adam's steps from the state of the discriminator's optimiser, as in an
            author's notebook.
        lr: the learning rate of the steps; None: that of the discriminator's optimiser.
    """

    def __init__(
        self, steps: Annotated[int, Field(ge=0, le=64)], rule: Literal["sgd", "adam"], lr: PositiveFloat | None
    ) -> None:
        self.steps, self.rule, self.lr = steps, rule, lr

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the discriminator's loss has no gradient penalty, and that Adam's steps are Adam's.

        Raises:
            ConfigError: it has, or its optimiser is another one.
        """
        penalty, optimizer = run.objective.penalty[TARGET], run.objective.optimizer.discriminator
        if class_name(penalty) != "NoPenalty":
            raise ConfigError(
                f"objective.penalty: {class_name(penalty)} has no part in the unrolled steps. Take objective=minimax "
                f"or non_saturating, or {key}=null"
            )
        plain = optimizer[TARGET] == "torch.optim.Adam" and not optimizer.get("amsgrad")
        if arguments["rule"] == "adam" and (not plain or optimizer.get("weight_decay")):
            raise ConfigError(
                f"{key}.rule=adam: takes the steps of torch.optim.Adam without amsgrad and weight decay, and the "
                f"discriminator's optimiser is another one. Take {key}.rule=sgd, or objective/optimizer=dcgan"
            )

    def __call__(
        self,
        loss: Callable[[Parameters], Tensor],
        start: Parameters,
        moments: Mapping[str, Mapping[str, Tensor]],
        settings: Mapping[str, Any],
    ) -> Parameters:
        """Return the parameters after k steps, with their graph.

        Args:
            loss: the discriminator's loss as a function of its parameters, of any shape; called k times.
            start: the parameters, of any shape, that require gradients.
            moments: Adam's state for each parameter: `step`, `exp_avg` and `exp_avg_sq`; empty before its first step.
            settings: the group of the discriminator's optimiser, with `lr`, `betas` and `eps`.
        """
        parameters = dict(start)
        lr = settings["lr"] if self.lr is None else self.lr
        states = {
            name: (
                moments.get(name, {}).get("exp_avg", torch.zeros_like(value)),
                moments.get(name, {}).get("exp_avg_sq", torch.zeros_like(value)),
                moments.get(name, {}).get("step", value.new_zeros(())),
            )
            for name, value in start.items()
        }
        for _ in range(self.steps):
            gradients = torch.autograd.grad(
                loss(parameters), list(parameters.values()), create_graph=True, materialize_grads=True
            )
            for (name, value), gradient in zip(list(parameters.items()), gradients, strict=True):
                direction = gradient
                if self.rule == "adam":
                    direction, states[name] = _adam(gradient, *states[name], settings)
                parameters[name] = value - lr * direction
        return parameters


def _adam(
    gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor, settings: Mapping[str, Any]
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return Adam's step without the learning rate, and its state after it (Kingma & Ba 2015, algorithm 1)."""
    (beta1, beta2), step = settings["betas"], step.to(gradient) + 1
    mean, square = beta1 * mean + (1 - beta1) * gradient, beta2 * square + (1 - beta2) * gradient.square()
    root = (square / _correction(beta2, step) + TINY).sqrt()
    return mean / _correction(beta1, step) / (root + settings["eps"]), (mean, square, step)


def _correction(beta: float, step: Tensor) -> Tensor | float:
    """Return 1 - beta^step, accurate for a beta near 1."""
    return -torch.expm1(step * math.log(beta)) if beta else 1.0
