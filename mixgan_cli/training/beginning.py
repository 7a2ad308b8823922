"""The state that a run begins with."""

from __future__ import annotations

from mixgan_cli import ranks
from mixgan_cli.config import Run
from mixgan_cli.data.dataset import Dataset
from mixgan_cli.data.flips import Flipped
from mixgan_cli.data.sharded import Sharded
from mixgan_cli.hardware import Compute
from mixgan_cli.models.build import Networks
from mixgan_cli.training.checkpoint import Progress, State
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.phases import build_phases


def begin(settings: Run, networks: Networks, dataset: Dataset, compute: Compute) -> State:
    """Return the state before the first iteration, all of it where it computes.

    Raises:
        ConfigError: an expert's share of the batch is too small.
    """
    for network in networks:
        compute.place(network)
    compute.hasten(networks.generator.trunk, networks.discriminator.body)
    training = settings.training
    order = settings.seed if training.shuffle else None
    batches = dataset.batches(order, compute.device, settings.hardware.data_on)
    if training.flips:
        batches = Flipped(batches, settings.seed, compute.device)
    if ranks.count() > 1:
        batches = Sharded(batches, ranks.rank(), ranks.count())
    return State(
        networks,
        MovingAverage(networks.generator, training.ema_half_life_nimg, training.ema_ramp_up),
        build_phases(
            settings.objective, networks, batches, training.batch, compute, settings.model.beta, training.fakes
        ),
        Progress(),
        settings.model_dump(mode="json"),
        dataset.describe(),
    )
