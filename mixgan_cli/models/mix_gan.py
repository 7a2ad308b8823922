r"""MIX+GAN: T generators against T discriminators, whose losses have learned weights (Arora et al. 2017, section 5).

Generators minimise, and discriminators maximise, \sum_ij w_i u_j F(i, j), where F(i, j) is the value of the game of
generator i and discriminator j. The weights w and u are learned together with the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from mixgan_cli.config.components import TARGET, attribute, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.experts import Experts, one_hot_like
from mixgan_cli.models.gates import Gate, GateWeights, UniformGate
from mixgan_cli.models.gumbel import gumbel_noise
from mixgan_cli.models.heads import DiscriminatorOutput, Head, dense
from mixgan_cli.models.layers import Initialise, LossWeights


class WeightedGate(UniformGate):
    """Each sample comes from one expert, drawn from learned weights w, which in training weigh the experts' losses.

    In training, all experts generate equally many samples, from the same latents, and the loss of expert i's samples
    counts w_i times. So w has a gradient without any sampling of experts.

    Args:
        k: number of experts.
        evenness: see `LossWeights`.
    """

    trainable = True
    differentiable = False

    def __init__(self, k: int, evenness: NonNegativeFloat) -> None:
        super().__init__(k, same_latents=True)
        self.weights_of_losses = LossWeights(k, evenness)

    def loss_weights(self) -> LossWeights:
        """Return w, the weights [K] of the losses of the experts' samples."""
        return self.weights_of_losses

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that a sample has one expert and a loss of its own.

        Raises:
            ConfigError: the discriminator sees packs, or the loss compares pairs of samples.
        """
        super().check_run(key, arguments, run)
        refuse_pairs(cls.__name__, run)
        if run.model.pack > 1:
            raise ConfigError(
                f"model.pack={run.model.pack}: {cls.__name__} weighs the losses of single samples, and a pack mixes "
                "samples of several experts. Take 1, or another gate"
            )

    def expert_prior(self) -> Tensor:
        """Return w, [K]."""
        weights: Tensor = self.weights_of_losses()
        return weights

    def forward(self, latent_BZ: Tensor) -> Tensor:
        """Return one-hot weights [B, K]: in training equally many of each expert, else drawn from w."""
        if self.training:
            return super().forward(latent_BZ)
        logits_BK = self.expert_prior().detach().log().expand(len(latent_BZ), -1)
        return one_hot_like((logits_BK + gumbel_noise(logits_BK, training=False)).argmax(dim=1), self.k, latent_BZ)

    def mix(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> tuple[Tensor, GateWeights]:
        """Return the output of each sample's expert, [B, …], and the one-hot weights."""
        return super().mix(latent_BZ, inputs, experts) if self.training else Gate.mix(self, latent_BZ, inputs, experts)

    def weights(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> GateWeights:
        """Return one-hot weights [B, K] and, as what they stand for, w in each row [B, K]."""
        return GateWeights(self(latent_BZ), self.probabilities(latent_BZ, inputs, experts))

    def probabilities(self, latent_BZ: Tensor, inputs: Tensor, experts: Experts) -> Tensor:
        """Return w in each row, [B, K]."""
        return self.expert_prior().expand(len(latent_BZ), -1)


class CommitteeHead(Head):
    """The scores of T discriminators, each with a body of its own, whose losses have learned weights u.

    Args:
        discriminators: T; 3 to 5 in the paper.
        evenness: see `LossWeights`.
        features: of each body, given by the program.
        initialise_head: the initialisation of the scores' layers, given by the program.
        spectral_norm: if true, they have spectral norm.
        head_bias: if true, they have biases.
    """

    scores = 0

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that the loss of each discriminator can be computed from its scores alone.

        Raises:
            ConfigError: the loss compares pairs or takes two scores, a penalty takes the gradient of one score, or the
                discriminator is unrolled.
        """
        super().check_run(key, arguments, run)
        refuse_pairs(cls.__name__, run)
        penalty = run.objective.penalty[TARGET]
        if attribute(penalty, "per_sample"):
            raise ConfigError(
                f"objective.penalty: {class_name(penalty)} takes the gradient of one score, and {cls.__name__} gives "
                "one for each discriminator. Take objective=wgan_clip or non_saturating, or model/head=score"
            )
        if run.objective.unroll:
            raise ConfigError(f"objective.unroll: {cls.__name__} cannot be unrolled. Take null, or model/head=score")

    def __init__(
        self,
        features: int,
        discriminators: Annotated[int, Field(ge=2, le=64)],
        evenness: NonNegativeFloat,
        initialise_head: Initialise,
        spectral_norm: bool,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        self.bodies = discriminators
        scores = (dense(features, 1, initialise_head, spectral_norm, head_bias) for _ in range(discriminators))
        self.each = nn.ModuleList(scores)
        self.weights_of_losses = LossWeights(discriminators, evenness)

    def loss_weights(self) -> LossWeights:
        """Return u, the weights [T] of the losses of the discriminators."""
        return self.weights_of_losses

    def forward(self, features_NF: Tensor, detach_features: bool = False) -> DiscriminatorOutput:
        """Return the scores [N, T] and the features of all bodies. There are no expert logits."""
        own = features_NF.chunk(self.bodies, dim=1)
        scores_NT = torch.cat([score(features) for score, features in zip(self.each, own, strict=True)], dim=1)
        return DiscriminatorOutput(scores_NT, None, features_NF)


def refuse_pairs(name: str, run: Run) -> None:
    """Check that real and generated samples have losses of their own, which can be weighted.

    Args:
        name: of the class that weighs them.
        run: the configuration.

    Raises:
        ConfigError: the loss compares pairs of a real and a generated sample.
    """
    adversarial = run.objective.adversarial[TARGET]
    if attribute(adversarial, "fake") is None:
        raise ConfigError(
            f"objective.adversarial: {class_name(adversarial)} compares pairs of samples, and {name} weighs the losses "
            "of single ones. Take another objective"
        )
