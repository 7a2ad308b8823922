"""One folder, one result: keys that are not part of a run's identity change no number of results.json and no weight."""

import json
from pathlib import Path

import pytest
import torch

from mixgan_cli.config.identity import WITH_ALARMS, identity, run_name
from mixgan_cli.config.keys import flatten_keys
from mixgan_cli.training.checkpoint import read_state
from tests.conftest import ALL, TINY, composed

MEASURED = ("evaluation.metrics=[ms_ssim,knn,mixture]", "training.evaluate_nimg=40", "objective.d_steps=1")
STOPPED = ("alarms.stop=true", "alarms.spread=1000")
"""An alarm ends the run at its first report."""
OTHER = {
    "name": ("mine",),
    "force": ("true",),
    "logger": ("tensorboard",),
    "paths.outputs": ("elsewhere",),
    "paths.run": ("here",),
    "sweep.name": ("mine",),
    "sweep.jobs": ("3",),
    "sweep.fail_fast": ("true",),
    "sweep.optimize": ("fid",),
    "sweep.direction": ("maximize",),
    "evaluation.batch": ("7",),
    "evaluation.name": ("mine",),
    "evaluation.weights": ("nowhere.pth",),
    "evaluation.download": ("true",),
    "training.sample_nimg": ("16", "null"),
    "training.figures": ("true",),
    "training.keep": ("3",),
    "training.max_skipped": ("0",),
    "hardware.data_on": ("host", "disk"),
    "hardware.capture": ("false",),
}
"""Keys that are not part of the identity, with values other than those of TINY."""
ONLY_WARNING = {
    "training.report_nimg": ("8", "96"),
    "training.checkpoint_nimg": ("8", "96"),
    "alarms.quality": ("1", "null"),
    "alarms.usage": ("1",),
    "alarms.active": ("1",),
    "alarms.loss": ("1e-6", "null"),
    "alarms.spread": ("1000",),
}
"""The same, for a run that no alarm ends."""
ROUNDED = {
    "hardware.threads": ("2",),
    "hardware.devices": ("2",),
    "hardware.channels_last": ("true",),
    "hardware.compile": ("true",),
}
"""Keys that change the order of sums, and so the last bits."""
NOT_HERE = {
    "hardware.device": "needs a GPU: tests/training/test_gpu.py",
    "hardware.nodes": "needs a second machine: as hardware.devices",
    "hardware.rendezvous": "needs a second machine",
    "lineage": "follows from continue and start_from, which are no keys of the stored configuration",
    "seeded": "follows from the command line, and is part of the hash",
    "choices": "follows from the command line",
}


def trained(mixgan, *overrides):
    """Train, and return the numbers of results.json without times and names, and the weights by name."""
    outcome = mixgan("train", *TINY, *MEASURED, *overrides)
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run_dir"])
    results = flatten_keys(json.loads((folder / "results.json").read_text()))
    numbers = {
        key: value
        for key, value in results.items()
        if not key.startswith(("run.seconds", "run.img_per_second", "run.evaluation_share", "run.name", "unavailable"))
        and key not in ("protocol.name", "protocol.batch", "protocol.extractors")
    }
    state = read_state(folder / "checkpoints" / "last.pt")
    return numbers, {
        f"{network}.{name}": tensor
        for network in ("generator", "discriminator", "ema")
        for name, tensor in state[network].items()
    }


def assert_equal(one, other):
    (numbers, weights), (others, other_weights) = one, other
    assert numbers == others
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def assert_close(one, other):
    (numbers, weights), (others, other_weights) = one, other
    assert numbers["run.nimg"] == others["run.nimg"] and numbers.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, other_weights[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("alarms", [(), STOPPED], ids=["length", "alarm"])
def test_every_key_outside_the_identity_is_tried(alarms):
    """If this fails for a new key: is it part of the identity (mixgan_cli/runs.py)? If not, it belongs here."""
    config = composed(*TINY, *alarms).model_dump(mode="json")
    outside = {key.partition("logger.")[0] or "logger" for key in flatten_keys(config).keys() - identity(config).keys()}
    tried = OTHER.keys() | ROUNDED.keys() | NOT_HERE.keys() | (set() if alarms else ONLY_WARNING.keys())
    assert outside - {"alarms.stop"} == tried


@pytest.mark.integ
@pytest.mark.parametrize("alarms", [(), STOPPED], ids=["length", "alarm"])
def test_keys_outside_the_identity_do_not_change_the_result(mixgan, alarms):
    """All at once, the first value of each and then the last."""
    before = trained(mixgan, *alarms)
    assert (before[0]["run.nimg"] < 96) == bool(alarms)
    for place in (0, -1):
        keys = {**OTHER, **({} if alarms else ONLY_WARNING)}
        words = [f"{key}={values[place]}" for key, values in keys.items()]
        words[words.index("paths.run=here")] = f"paths.run=here{place}"
        assert_equal(before, trained(mixgan, *alarms, *words))


@pytest.mark.slow
@pytest.mark.integ
@pytest.mark.skipif(not ALL, reason="`make test-all` gives each key alone; `make integ` gives all keys at once")
@pytest.mark.parametrize("alarms", [(), STOPPED], ids=["length", "alarm"])
def test_each_key_alone_does_not_change_the_result(mixgan, alarms):
    before = trained(mixgan, *alarms)
    for key, values in {**OTHER, **({} if alarms else ONLY_WARNING), **ROUNDED}.items():
        for number, value in enumerate(values):
            words = [f"{key}={value}", *([] if key == "paths.run" else [f"paths.run={key}{number}"])]
            after = trained(mixgan, *alarms, *words, *(["hardware=ddp"] if key == "hardware.devices" else []))
            (assert_close if key in ROUNDED else assert_equal)(before, after)


@pytest.mark.parametrize("key", sorted(WITH_ALARMS))
def test_intervals_belong_to_the_identity_if_alarms_end_the_run(mixgan, key):
    """They decide where it ends, so that another value is another run."""
    ends = {}
    for value in (16, 80):
        other = next(each for each in WITH_ALARMS if each != key)
        numbers, _ = trained(mixgan, *STOPPED, "training.evaluate_nimg=null", f"{other}=96", f"{key}={value}")
        ends[value] = numbers["run.nimg"]
    assert ends[16] < ends[80]


def test_intervals_are_part_of_the_name_only_if_alarms_end_the_run():
    names = {run_name(composed("alarms.stop=true", *words)) for words in ((), *((f"{key}=77",) for key in WITH_ALARMS))}
    assert len(names) == 3
    assert {run_name(composed(f"{key}=77")) for key in WITH_ALARMS} == {run_name(composed())}
