"""Minibatch discrimination: a discriminator that compares the samples of a batch (Salimans et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from mixgan_cli.config.components import TARGET, attribute, class_name
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.gates import no_autocast
from mixgan_cli.models.heads import DiscriminatorOutput, Head, dense
from mixgan_cli.models.layers import Initialise

Count = Annotated[int, Field(gt=0, le=2**12)]


class MinibatchHead(Head):
    r"""A score of the features f and of how near each sample is to the others (Salimans et al. 2016, section 3.2).

    Kernel b maps f_i [F] to M_ib = f_i W_b [D]. The score is a dense layer of f_i and, for each kernel,
    o_b(x_i) = \sum_{j ≠ i} exp(-‖M_ib - M_jb‖_1) + c_b, over the samples that pass together: real and generated ones
    separately, all experts together. So the discriminator sees a lack of variety.

    As in the released code, W = \theta e^s / ‖\theta‖ with \theta ~ N(0, 0.05²), norms over F, and c = -1, s = 0 before
    `initialise_from`. The score of a sample depends on others, so gradient penalties are refused.

    Args:
        features: F, given by the program.
        kernels: number of kernels; 100 in the released code for CIFAR-10.
        dimensions: D; 5 in the released code.
        initialise_head: the initialisation of the dense layer, given by the program.
        spectral_norm: if true, the dense layer has spectral norm.
        head_bias: if true, it has a bias.
    """

    across_samples = True

    @classmethod
    def check_run(cls, key: str, arguments: Mapping[str, Any], run: Run) -> None:
        """Check that no penalty takes the gradient of each sample's own score.

        Raises:
            ConfigError: the objective has such a penalty.
        """
        super().check_run(key, arguments, run)
        penalty = run.objective.penalty[TARGET]
        if attribute(penalty, "per_sample"):
            raise ConfigError(
                f"objective.penalty: {class_name(penalty)} takes the gradient of each sample's own score, and with "
                f"{cls.__name__} it depends on the other samples. Take objective=non_saturating, or model/head=score"
            )

    def __init__(
        self,
        features: int,
        kernels: Count,
        dimensions: Count,
        initialise_head: Initialise,
        spectral_norm: bool,
        head_bias: bool = True,
    ) -> None:
        super().__init__()
        self.theta_FBD = nn.Parameter(0.05 * torch.randn(features, kernels, dimensions))
        self.log_scale_BD = nn.Parameter(torch.zeros(kernels, dimensions))
        self.offset_B = nn.Parameter(torch.full((kernels,), -1.0))
        self.score = dense(features + kernels, 1, initialise_head, spectral_norm, head_bias)

    def forward(self, features_NF: Tensor, detach_features: bool = False) -> DiscriminatorOutput:
        """Return the scores [N] and the features of the body. There are no expert logits."""
        with no_autocast(features_NF):
            closeness_NB = closeness(self._distances(features_NF)) + self.offset_B
        scores_N1 = self.score(torch.cat((features_NF, closeness_NB.to(features_NF)), dim=1))
        return DiscriminatorOutput(scores_N1.squeeze(1), None, features_NF)

    @torch.no_grad()
    def initialise_from(self, features_NF: Tensor) -> None:
        """Scale each kernel by the features of real samples [N, F], as in the released code.

        Afterwards the mean distance to the nearest sample is 2, and the mean of each o_b is 0.
        """
        distance_BNN = self._distances(features_NF)
        itself = torch.eye(len(features_NF), dtype=torch.bool, device=features_NF.device)
        nearest_B = distance_BNN.masked_fill(itself, torch.inf).amin(dim=2).mean(dim=1) / 2
        nearest_B = nearest_B.clamp_min(1e-6)  # of equal features
        self.log_scale_BD.sub_(nearest_B.log().unsqueeze(1))
        self.offset_B.copy_(-closeness(distance_BNN / nearest_B.view(-1, 1, 1)).mean(dim=0))

    def _distances(self, features_NF: Tensor) -> Tensor:
        """Return ‖M_ib - M_jb‖_1 for all pairs of samples and kernels, [B, N, N]."""
        weight_FBD = self.theta_FBD * (self.log_scale_BD.exp() / self.theta_FBD.square().sum(dim=0).sqrt())
        projected_NBD = (features_NF.to(weight_FBD) @ weight_FBD.flatten(1)).unflatten(1, weight_FBD.shape[1:])
        projected_BND = projected_NBD.transpose(0, 1)
        # torch.cdist has no second derivative in PyTorch 2.11, which unrolled steps need
        return (projected_BND.unsqueeze(2) - projected_BND.unsqueeze(1)).abs().sum(dim=3)


def closeness(distance_BNN: Tensor) -> Tensor:
    """Return the sum over the other samples of exp(-distance), [N, B], from distances [B, N, N]."""
    return ((-distance_BNN).exp().sum(dim=2) - 1).t()  # without the sample itself, whose distance is 0
