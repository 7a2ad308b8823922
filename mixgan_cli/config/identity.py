"""What identifies a run: the keys that affect its result, their hash, and the name made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mixgan_cli.config.keys import flatten_keys, prefixes
from mixgan_cli.config.schema import Run

NOT_IDENTITY = frozenset(
    {
        "name",
        "force",
        "sweep",
        "lineage.how",
        "lineage.source",
        "lineage.nimg",
        "seeded",
        "choices",
        "logger",
        "paths",
        "hardware.device",
        "hardware.devices",
        "hardware.nodes",
        "hardware.rendezvous",
        "hardware.threads",
        "hardware.channels_last",
        "hardware.capture",
        "hardware.compile",
        "hardware.data_on",
        "evaluation.weights",
        "evaluation.download",
        "evaluation.name",
        "evaluation.batch",
        "training.report_nimg",
        "training.sample_nimg",
        "training.figures",
        "training.checkpoint_nimg",
        "training.keep",
        "training.max_skipped",
    }
)
"""Keys that do not affect the result: name, device, logger, paths, how often files are written."""


WITH_ALARMS = frozenset({"training.report_nimg", "training.checkpoint_nimg"})
"""Keys that decide when alarms are checked, and so the length of a run that an alarm ends (`alarms.stop`).

They belong to the identity of such a run only.
"""

ADDED: Mapping[str, Any] = {
    "alarms.loss": None,
    "alarms.spread": None,
    "data.split_seed": None,
    "evaluation.norm_batch": None,
    "model.backbone.norm_scale": "one",
    "model.experts.init": "fan_in",
    "model.experts.norm_scale": "one",
    "model.gate.norm_scale": "one",
    "model.gate.separate": False,
    "model.gate.weight_dropout": 0.0,
    "model.pack": 1,
    "model.head.hidden": 0,
    "objective.fake_passes": "together",
    "objective.generator_fakes": 1,
    "objective.penalty.one_sided": False,
    "objective.unroll": None,
    "objective.terms.competition.reversed_sign": False,
    "training.dequantize": False,
}
"""Keys that were added after version 0.2.0, with the value that changes nothing, which older runs have.

The value is also the default of the key in the schema or in the signature of its class, because the configuration of an
older run lacks the key. A key with this value does not change the hash of a configuration.
"""


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved keys and values that identify a run: all except those of NOT_IDENTITY."""
    flat = flatten_keys(config)
    stops = bool(flat.get("alarms.stop"))
    if not stops:  # alarms that only warn do not affect the result
        flat = {key: value for key, value in flat.items() if not key.startswith("alarms.")}
    if flat.get("lineage.weights") is None:  # the run began with its own initial weights, perhaps in another folder
        flat = {key: value for key, value in flat.items() if "lineage" not in prefixes(key)}
    return {key: value for key, value in flat.items() if affects_result(key, stops)}


def affects_result(key: str, stops: bool) -> bool:
    """True if a key, or a group, belongs to the identity of a run that an alarm ends (`stops`), or of another one."""
    return (stops and key in WITH_ALARMS) or NOT_IDENTITY.isdisjoint(prefixes(key))


def configuration_hash(config: Mapping[str, Any]) -> str:
    """Return a hash that the runs of one configuration share, 8 hexadecimal digits: of the identity without the seed.

    A value given as ${seed} counts as this text, so runs share a hash even if each seed holds out other images.
    """
    seed, seeded = config.get("seed"), config.get("seeded") or ()
    values = {
        key: "${seed}" if value == seed and key in seeded else value
        for key, value in identity(config).items()
        if key != "seed" and (key not in ADDED or value != ADDED[key])
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def run_name(run: Run) -> str:
    """Return the run's name, made of data, model, hash of the configuration, and seed: digits-hmog-1a2b3c4d-s0.

    A name of the user's stands for data and model: my_run-1a2b3c4d-s0.
    """
    readable = run.name or f"{run.data['name']}-{run.model.name}"
    return f"{readable}-{configuration_hash(run.model_dump(mode='json'))}-s{run.seed}"
