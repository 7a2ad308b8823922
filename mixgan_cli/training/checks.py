"""Checks that networks, objective, batch sizes and data fit together, made before a run has a folder."""

from __future__ import annotations

import logging
import math

from torch.nn.modules.batchnorm import _BatchNorm

from mixgan_cli.config.components import TARGET, attribute, class_name
from mixgan_cli.config.schema import Objective, Training
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import Networks
from mixgan_cli.objectives.penalties import no_batch_norm
from mixgan_cli.objectives.terms import GateTerm

log = logging.getLogger("mixgan")

FAKES_PER_NORMED_EXPERT = 12
"""Default number of samples per step of an expert with batch norm: MGGAN's (Hoang et al. 2017, released code)."""


def check_networks(networks: Networks, objective: Objective, batch: int, fakes: int | None) -> None:
    """Check that these networks can be trained, and warn of what is known to train badly.

    Args:
        networks: generator and discriminator.
        objective: the configuration's objective group.
        batch: number of real samples per step.
        fakes: `training.fakes`, see `fakes_per_step`.

    Raises:
        ConfigError: a batch or an expert's share is too small for batch norm, the generated samples make no whole
            packs, an optimiser has no parameters, or the penalty does not allow the discriminator's norms.
    """
    generator, discriminator = networks
    n, pack = fakes_per_step(networks, objective, batch, fakes), discriminator.pack
    if n % pack:
        shared = generator.gate.splits_batch and objective.fakes == "shared"
        raise ConfigError(
            f"model.pack={pack}: the {n} generated samples of a step make no whole packs. Take a multiple of "
            f"{math.lcm(pack, generator.k if shared else 1)} as training.fakes"
        )
    terms = {name for name, term in objective.terms.items() if attribute(term[TARGET], "network") == GateTerm.network}
    of_gate = (["optimizer.gate"] if objective.optimizer.gate else []) + [f"terms.{name}" for name in sorted(terms)]
    if of_gate and not generator.gate.own_parameters():
        raise ConfigError(f"objective.{of_gate[0]}: with model.k={generator.k} the gate has no parameters; take null")
    if rule := attribute(objective.penalty[TARGET], "check_discriminator"):
        rule("objective.penalty", discriminator)
    if any(isinstance(module, _BatchNorm) for module in discriminator.modules()):
        if batch < 2 * pack:
            images = "images" if pack == 1 else f"packs of {pack} images"
            raise ConfigError(
                f"training.batch={batch}: the discriminator has batch norm and needs two {images}. Take {2 * pack}"
            )
        if attribute(objective.penalty[TARGET], "refuses_batch_norm"):
            raise ConfigError(f"objective.penalty: {no_batch_norm(objective.penalty[TARGET])}")
        if attribute(objective.penalty[TARGET], "per_sample"):
            log.warning(
                "warning: a gradient penalty assumes that the discriminator is a function of one sample, and this one "
                "has batch norm (Gulrajani et al. 2017, section 4). Use model.backbone.discriminator_norm=layer or none"
            )


def check_shape(shape: tuple[int, ...], training: Training, objective: Objective) -> None:
    """Check that points get nothing that is for images only.

    Args:
        shape: of one sample: (C, H, W) for images, (D,) for points.
        training: the configuration's training group.
        objective: its objective group.

    Raises:
        ConfigError: the data are points, with flips, noise or an augmentation of images.
    """
    if len(shape) == 3:
        return
    if training.dequantize:
        raise ConfigError("training.dequantize=true: points have no grey levels. Take false, or a data set of images")
    if training.flips:
        raise ConfigError("training.flips=true: points have no left and right. Take false, or a data set of images")
    if objective.augment and attribute(objective.augment[TARGET], "images_only"):
        name = class_name(objective.augment[TARGET])
        raise ConfigError(f"objective.augment: {name} is for images, and the data are points. Take null")


def check_ranks(networks: Networks, training: Training, objective: Objective, processes: int) -> None:
    """Check that the batches can be divided among the processes.

    Raises:
        ConfigError: the batch, or an expert's share of the generated samples, is not a multiple of their number, they
            cannot divide the packs, or the discriminator compares the samples of a batch, of which each has a part.
    """
    generator, head, pack = networks.generator, networks.discriminator.head, networks.discriminator.pack
    if processes > 1 and head.across_samples:
        raise ConfigError(
            f"model.head: {type(head).__name__} compares the samples of a batch, and each of {processes} processes has "
            "a part of it. Take hardware.devices=1, or model/head=score"
        )
    if processes > 1 and objective.unroll:
        raise ConfigError(
            f"objective.unroll: the unrolled steps are not averaged over {processes} processes. Take "
            "hardware.devices=1, or null"
        )
    fakes = fakes_per_step(networks, objective, training.batch, training.fakes)
    share = fakes // generator.k if generator.gate.splits_batch else fakes
    for key, n in {"training.batch": training.batch, "an expert's share of the generated samples": share}.items():
        if n % processes:
            raise ConfigError(
                f"{key}={n}: {processes} processes (hardware.devices × hardware.nodes) cannot share it equally. "
                f"Take a multiple of {processes}"
            )
    for key, n in {"training.batch": training.batch, "the number of generated samples": fakes}.items():
        if n % (processes * pack):
            raise ConfigError(
                f"{key}={n}: {processes} processes (hardware.devices × hardware.nodes) cannot share its packs of "
                f"{pack} equally. Take a multiple of {processes * pack}"
            )


def fakes_per_step(networks: Networks, objective: Objective, batch: int, fakes: int | None) -> int:
    """Return the number of samples generated per step, in equal shares if the gate splits the batch among experts.

    `fakes` counts the samples of all experts; if the gate splits the batch and `objective.fakes` is per_expert, those
    of one expert. By default, it is the number of real samples; if experts with batch norm share them, at least
    FAKES_PER_NORMED_EXPERT for each expert.

    Raises:
        ConfigError: an expert's share, or the batch, is too small for batch norm.
    """
    generator = networks.generator
    gate, k = generator.gate, generator.k
    shared = gate.splits_batch and objective.fakes == "shared"
    if fakes is None:
        normed = shared and generator.experts.min_batch > 1
        fakes = max(batch, k * FAKES_PER_NORMED_EXPERT) if normed else batch
    share = fakes // k if shared else fakes
    min_share = max(generator.experts.min_batch, gate.min_batch)
    if share < min_share:
        raise ConfigError(
            f"model.k={k}: of {fakes} fakes a step an expert makes {share} and needs {min_share}, for batch norm. "
            "Raise training.batch or training.fakes"
            + (", or take objective.fakes=per_expert" if gate.splits_batch else "")
        )
    return share * k if gate.splits_batch else share
