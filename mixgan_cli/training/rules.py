"""What must hold before these networks can play this game: found out before a run has a folder."""

from __future__ import annotations

import logging

from torch.nn.modules.batchnorm import _BatchNorm

from mixgan_cli.config import Objective, Training
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.build import Networks
from mixgan_cli.parts import TARGET, attribute

log = logging.getLogger("mixgan")

NORMED_SHARE = 12
"""Samples an expert with batch norm makes a step where nothing else is said: MGGAN's (Hoang et al. 2017, its code)."""


def check_game(networks: Networks, objective: Objective, batch: int, fakes: int | None) -> None:
    """Refuse what cannot be trained, and warn of what is known to train badly.

    Args:
        networks: the players.
        objective: the configuration's objective group.
        batch: real samples a step.
        fakes: generated ones; None: see `fakes_a_step`.

    Raises:
        ConfigError: a batch or an expert's share too small for batch norm; an optimiser with nothing to move.
    """
    generator, discriminator = networks
    fakes_a_step(networks, objective, batch, fakes)
    for key, wanted in {"optimizer.gate": objective.optimizer.gate, "balance": objective.balance}.items():
        if wanted and not generator.gate.moving():
            raise ConfigError(f"objective.{key}: with model.k={generator.k} the gate learns nothing; take null")
    if any(isinstance(module, _BatchNorm) for module in discriminator.modules()):
        if batch < 2:
            raise ConfigError("training.batch=1: the discriminator has batch norm, and one image is no batch. Take 2")
        if attribute(objective.penalty[TARGET], "per_sample"):
            log.warning(
                "warning: a gradient penalty takes the discriminator for a function of one sample, and this one has "
                "batch norm (Gulrajani et al. 2017, section 4). model.backbone.discriminator_norm=layer, or none, mends"
            )


def check_shape(shape: tuple[int, ...], training: Training, objective: Objective) -> None:
    """Refuse on points what is for images alone.

    Args:
        shape: of one sample: (C, H, W) for images, (D,) for points.
        training: the configuration's training group.
        objective: its objective group.

    Raises:
        ConfigError: flips, or an augmentation of images, and the data are points.
    """
    if len(shape) == 3:
        return
    if training.flips:
        raise ConfigError("training.flips=true: points have no left and right. Take false, or a data set of images")
    if objective.augment and attribute(objective.augment[TARGET], "images_only"):
        name = objective.augment[TARGET].rpartition(".")[2]
        raise ConfigError(f"objective.augment: {name} is for images, and the data are points. Take null")


def check_ranks(networks: Networks, training: Training, objective: Objective, processes: int) -> None:
    """Refuse what cannot be shared out among so many processes.

    Raises:
        ConfigError: a batch, or an expert's share of the generated samples, that they do not divide.
    """
    generator = networks.generator
    fakes = fakes_a_step(networks, objective, training.batch, training.fakes)
    share = fakes // generator.k if generator.gate.partitions else fakes
    for key, n in {"training.batch": training.batch, "of the generated samples an expert's share": share}.items():
        if n % processes:
            raise ConfigError(
                f"{key}={n}: {processes} processes (hardware.devices × hardware.nodes) cannot share it equally. "
                f"Take a multiple of {processes}"
            )


def fakes_a_step(networks: Networks, objective: Objective, batch: int, fakes: int | None) -> int:
    """Return how many samples a step generates: for gates that share out the batch, equal shares.

    Unless it is said, as many as there are real ones; where experts with batch norm share them, at least NORMED_SHARE
    an expert.

    Raises:
        ConfigError: an expert's share, or the batch, is too small for batch norm.
    """
    generator = networks.generator
    gate, k = generator.gate, generator.k
    shared = gate.partitions and objective.fakes == "shared"
    if fakes is None:
        normed = shared and generator.experts.least_batch > 1
        fakes = max(batch, k * NORMED_SHARE) if normed else batch
    share = fakes // k if shared else fakes
    least = max(generator.experts.least_batch, gate.least_batch)
    if share < least:
        raise ConfigError(
            f"model.k={k}: of {fakes} fakes a step an expert makes {share} and needs {least}, for batch norm. "
            "Raise training.batch or training.fakes"
            + (", or take objective.fakes=per_expert" if gate.partitions else "")
        )
    return share * k if gate.partitions else share
