"""The discriminator after unrolled steps, for the generator's step (Metz et al. 2017)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from mixgan_cli.models.gates import no_autocast
from mixgan_cli.models.heads import DiscriminatorOutput
from mixgan_cli.models.networks import Discriminator, Networks
from mixgan_cli.objectives.unrolling import Parameters, Unrolling
from mixgan_cli.training.context import StepContext
from mixgan_cli.training.phases import DiscriminatorPhase, ShownSamples


class Unrolled:
    """Takes the unrolled steps of a critic's phase.

    Args:
        critic: the phase whose loss the steps minimise.
        unrolling: the steps.
    """

    def __init__(self, critic: DiscriminatorPhase, unrolling: Unrolling) -> None:
        self.critic, self.unrolling = critic, unrolling

    def __call__(self, real: Tensor, fake: Tensor, weights_BK: Tensor) -> StepContext:
        """Return the context of a step with the discriminator after the steps.

        Args:
            real: real samples [N, …] as the discriminator sees them.
            fake: generated ones, with their graph.
            weights_BK: mixture weights of the generated samples.
        """
        discriminator = self.critic.context.networks.discriminator
        (group,) = self.critic.optimizers["discriminator"].param_groups
        state = self.critic.optimizers["discriminator"].state
        moments = {name: state.get(parameter, {}) for name, parameter in discriminator.named_parameters()}
        start = {name: p.detach().clone().requires_grad_() for name, p in discriminator.named_parameters()}

        def loss(parameters: Parameters) -> Tensor:
            context = replace(self._context(parameters), augment=None)  # adaptive augmentation counts no unrolled step
            critic = replace(self.critic, context=context, one_pass=False)
            shown = (ShownSamples(real, real), ShownSamples(fake, fake))
            return torch.stack(list(critic.losses(*shown, weights_BK, {}, {}))).sum()

        return self._context(self.unrolling(loss, start, moments, group))

    def _context(self, parameters: Parameters) -> StepContext:
        context = self.critic.context
        networks = Networks(context.networks.generator, _WithParameters(context.networks.discriminator, parameters))
        return replace(context, networks=networks)


class _WithParameters(Discriminator):
    """A discriminator with other parameters, in whose type it computes, and copies of its buffers. Never compiled."""

    def __init__(self, discriminator: Discriminator, parameters: Parameters) -> None:
        super().__init__(discriminator.body, discriminator.head, discriminator.pack)
        buffers = {name: value.clone() for name, value in discriminator.named_buffers()}
        self._own: dict[str, Tensor] = {**parameters, **buffers}
        self._own_type = next(iter(parameters.values())).dtype
        self._inner = (discriminator,)  # in a tuple, so that it is no module of this one

    def forward(self, samples: Tensor, detach_features: bool = False, parts: int = 1) -> DiscriminatorOutput:
        """Return the discriminator's output for samples [N, …] in `parts` parts."""
        arguments: tuple[Any, ...] = (samples.to(self._own_type), detach_features, parts)
        with no_autocast(samples), torch.compiler.set_stance("force_eager"):
            output: DiscriminatorOutput = functional_call(self._inner[0], self._own, arguments)
        return output
