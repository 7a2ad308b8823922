"""Every model × gate × head × objective in conf/: it trains, saves, resumes bit for bit and samples, or says why not.

The YAML files are discovered: a new one is covered by being there.
"""

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mixgan_cli.config.compose import groups
from mixgan_cli.config.schema import Run, parse
from mixgan_cli.data.batches import PackedBatches
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training import loop
from mixgan_cli.training.checkpoint import Progress, State
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.phases import build_phases
from tests.conftest import composition

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
CHOICES = groups()
REFUSED = "take|Take|Raise|raise"


@cache
def plain(*overrides):
    """A composed configuration as a plain dictionary; composing is what takes time."""
    return OmegaConf.to_container(composition(*overrides), resolve=True)


def configuration(model, gate, head, objective):
    """What `model=… model/gate=… model/head=… objective=…` composes, put together from its groups."""
    config = dict(plain(f"model={model}"))
    parts = dict(config["model"])
    parts["gate"] = plain(f"model/gate={gate}")["model"]["gate"]
    parts["head"] = plain(f"model/head={head}")["model"]["head"]
    parts["k"] = 1 if gate == "none" else 2
    parts["beta"] = 0.1 if head != "score" else 0.0
    parts["backbone"] = {**parts["backbone"], "channels": 2}
    parts["latent"] = {"size": 4, "distribution": "normal"}
    config["model"], config["objective"] = parts, plain(f"objective={objective}")["objective"]
    config["training"] = {**config["training"], "batch": 4}
    return config


def begin(config):
    """The state a run of this configuration begins with."""
    run: Run = parse(config, Run)
    torch.manual_seed(0)
    networks = build_networks(run.model, SHAPE)
    images = torch.randint(0, 256, (16, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batches = PackedBatches(Packed(images, None, "random"), 0, CPU)
    phases = build_phases(run.objective, networks, batches, run.training.batch, Compute(CPU), run.model.beta)
    ema = MovingAverage(networks.generator, 100, None)
    return State(networks, ema, phases, Progress(), run.model_dump(mode="json"), {"set": "random"})


def iterate(state):
    """One iteration, whose losses are finite."""
    loop.iterate(state, seed=0)
    told = state.means.read()
    assert told.means and not told.skipped and all(map(math.isfinite, told.means.values())), told


def tensors(state):
    """All that a state is made of."""
    found = {f"ema.{name}": value for name, value in state.ema.average.state_dict().items()}
    for player, network in state.networks._asdict().items():
        found |= {f"{player}.{name}": value for name, value in network.state_dict().items()}
    return found


def distinct_objectives():
    """The choices without those that only name another one's recipe for their own model."""
    found = {}
    for choice in CHOICES["objective"]:
        found.setdefault(str(plain(f"objective={choice}")["objective"]), choice)
    return list(found.values())


@pytest.mark.parametrize("objective", distinct_objectives())
@pytest.mark.parametrize("head", CHOICES["model/head"])
@pytest.mark.parametrize("gate", CHOICES["model/gate"])
@pytest.mark.parametrize("model", CHOICES["model"])
def test_trains_saves_resumes_and_samples_or_says_why_not(model, gate, head, objective, tmp_path: Path):
    config = configuration(model, gate, head, objective)
    try:
        state = begin(config)
    except ConfigError as refusal:
        assert any(word in str(refusal) for word in REFUSED.split("|")), refusal
        assert (model, gate, head, objective) != own(model)
        return
    iterate(state)
    state.save(tmp_path / "last.pt")
    iterate(state)
    resumed = begin(config)
    resumed.load(tmp_path / "last.pt")
    iterate(resumed)
    there, here = tensors(state), tensors(resumed)
    assert there.keys() == here.keys() and all(torch.equal(there[name], here[name]) for name in there)
    assert Sampler(state.ema.average).sample(5).shape == (5, *SHAPE)


@pytest.mark.parametrize("experts", CHOICES["model/experts"])
@pytest.mark.parametrize("model", CHOICES["model"])
def test_any_experts_go_with_any_model(model, experts):
    """By the override a user would give; with the objective that the model brings."""
    config = dict(plain(f"model={model}", f"model/experts={experts}"))
    config["model"] = {**config["model"], "k": 1 if model == "gan" else 2}
    config["model"]["backbone"] = {**config["model"]["backbone"], "channels": 2}
    config["training"] = {**config["training"], "batch": 4}
    state = begin(config)
    iterate(state)
    assert Sampler(state.ema.average).sample(3).shape == (3, *SHAPE)


@cache
def own(model):
    """The model in its own recipe, which is never refused."""
    composed = composition(f"model={model}", hydra=True)
    choices = composed.hydra.runtime.choices
    return model, choices["model/gate"], choices["model/head"], choices["objective"]


@pytest.mark.parametrize("model", CHOICES["model"])
def test_configurations_put_together_are_what_hydra_composes(model):
    """The matrix above must test what a user's command composes."""
    _, gate, head, objective = own(model)
    together, composed = configuration(model, gate, head, objective), plain(f"model={model}")
    assert together["objective"] == composed["objective"] and together["model"]["head"] == composed["model"]["head"]
    assert together["model"]["gate"] == composed["model"]["gate"]
