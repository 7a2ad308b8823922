"""Models, gates, experts, heads and objectives combine: each pair trains, resumes bitwise and samples, or is refused.

The YAML files are discovered: a new one is covered by being there. About a hundred combinations contain every pair;
`make test-all` trains every model × gate × head × objective, whose experts take turns.
"""

import math
from functools import cache
from itertools import cycle, product
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from mixgan_cli.config.components import attribute
from mixgan_cli.config.compose import groups
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run, conf_dir
from mixgan_cli.data.batches import PackedBatches
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import ConfigError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runtime.device import Compute
from mixgan_cli.training import loop
from mixgan_cli.training.checkpoint import Progress, State
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.setup import build_phases
from tests.conftest import ALL, composition
from tests.pairwise import all_pairs, covering, pairs_of

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
CHOICES = groups()
FACTORS = {group: CHOICES[group] for group in ("model", "model/gate", "model/experts", "model/head", "objective")}


def is_alias(objective):
    """Whether an objective's file only names another one as the recipe of its own model."""
    content = yaml.safe_load((conf_dir() / "objective" / f"{objective}.yaml").read_text())
    first, *others = content.get("defaults", [None])
    return content.keys() == {"defaults"} and first in CHOICES["objective"] and others == ["_self_"]


FACTORS["objective"] = [choice for choice in FACTORS["objective"] if not is_alias(choice)]


def refused(group, choices, objectives, reason):
    """Pairs of a part and an objective that do not go together, with the reason that is given."""
    return {
        frozenset(((group, choice), ("objective", objective))): reason for choice in choices for objective in objectives
    }


COMPETITION = refused(
    "model/gate",
    set(FACTORS["model/gate"]) - {"uniform", "uniform_separate"},
    ["madgan_sim"],
    "experts at the same latents",
)
MINIBATCH = refused(
    "model/head", ["minibatch"], ["hmog", "megan", "r1", "r3gan", "wgan_gp"], "it depends on the other samples"
)
COMMITTEE = (
    refused("model/head", ["committee"], ["hmog", "megan", "r1", "wgan_gp"], "takes the gradient of one score")
    | refused("model/head", ["committee"], ["r3gan"], "compares pairs of samples")
    | refused("model/head", ["committee"], ["unrolled"], "cannot be unrolled")
    | refused("model/head", ["committee"], ["madgan_sim"], "gives several scores of a sample")
)
WEIGHTED = refused("model/gate", ["weighted"], ["r3gan"], "compares pairs of samples")
ONE_SCORE = set(FACTORS["model/head"]) - {"dual", "multiclass"}
SCORES = refused("model/head", ONE_SCORE, ["d2gan"], "takes two") | refused(
    "model/head", ["dual"], set(FACTORS["objective"]) - {"d2gan", "dmgan"}, "takes one score of a sample"
)
BALANCE = refused(
    "model/gate",
    ["none", "uniform", "uniform_separate"],
    ["dmgan", "megan", "megan_hidden"],
    "learns nothing that could be balanced",
)
NO_PROBABILITY = refused(
    "model/head",
    ["multiclass"],
    ["d2gan", "dmgan", "hinge", "hmog", "lsgan", "megan", "r3gan", "wgan_clip", "wgan_gp"],
    "takes the score for something else",
)
NO_GRADIENT = refused("model/gate", ["prior", "weighted"], ["megan"], "have no gradient")
NO_POSTERIOR = refused(
    "model/head",
    ["minibatch", "score", "dual", "committee"],
    ["dmgan"],
    "asks a classifier for the experts of real samples",
)
BATCH_NORM = refused(
    "model",
    ["d2gan", "madgan", "madgan_sim", "megan_hidden", "mggan", "mix_gan"],
    ["r3gan"],
    "takes the gradient of each sample's own score",
)
CLIPPED = refused(
    "model",
    ["gan", "d2gan", "dmgan", "hmog", "madgan", "madgan_sim", "megan_hidden", "mggan", "mix_gan", "mog"],
    ["wgan_clip"],
    "clamps all",
)
REFUSED = (
    COMPETITION
    | BALANCE
    | NO_PROBABILITY
    | NO_GRADIENT
    | NO_POSTERIOR
    | BATCH_NORM
    | CLIPPED
    | SCORES
    | MINIBATCH
    | COMMITTEE
    | WEIGHTED
)
ROWS = covering(FACTORS, set(REFUSED))
UNTRAINED = [row for row in ROWS if pairs_of(row) & REFUSED.keys()]
EVERY = [
    {**dict(zip(FACTORS, row, strict=True)), "model/experts": experts}
    for row, experts in zip(product(*{**FACTORS, "model/experts": [""]}.values()), cycle(FACTORS["model/experts"]))
]
TRAINED = [row for row in (EVERY if ALL else ROWS) if not pairs_of(row) & REFUSED.keys()]


@cache
def plain(*overrides):
    """A composed configuration as a plain dictionary; composing is what takes time."""
    return OmegaConf.to_container(composition(*overrides), resolve=True)


def configuration(row):
    """What `model=… model/gate=… model/experts=… model/head=… objective=…` composes, put together from its groups."""
    config = dict(plain(f"model={row['model']}"))
    parts = dict(config["model"])
    for part in ("gate", "experts", "head"):
        parts[part] = plain(f"model/{part}={row[f'model/{part}']}")["model"][part]
    parts["k"] = 1 if row["model/gate"] == "none" else 2
    classifies = attribute(parts["head"]["_target_"], "classifies_experts")
    parts["beta"] = 0.1 if classifies else 0.0
    parts["backbone"] = {**parts["backbone"], "channels": 2}
    parts["latent"] = {"size": 4, "distribution": "normal"}
    objective = dict(plain(f"objective={row['objective']}")["objective"])
    diversity = {**objective["terms"]["diversity"], "weight": parts["beta"]}  # ${model.beta}
    config["model"], config["objective"] = parts, {**objective, "terms": {**objective["terms"], "diversity": diversity}}
    config["training"] = {**config["training"], "batch": 4}
    return config


def begin(config):
    """The state a run of this configuration begins with."""
    run: Run = parse(config, Run)
    torch.manual_seed(0)
    networks = build_networks(run.model, SHAPE)
    images = torch.randint(0, 256, (16, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batches = PackedBatches(Packed(images, None, "random"), 0, CPU)
    phases = build_phases(run.objective, networks, batches, run.training.batch, Compute(CPU))
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


def own(model):
    """The row of a model in its own recipe."""
    choices = composition(f"model={model}", hydra=True).hydra.runtime.choices
    return {factor: choices[factor] for factor in FACTORS}


def name_of(row):
    return "-".join(row.values())


def trains_resumes_and_samples(config, folder: Path):
    state = begin(config)
    iterate(state)
    state.save(folder / "last.pt")
    iterate(state)
    resumed = begin(config)
    resumed.load(folder / "last.pt")
    iterate(resumed)
    there, here = tensors(state), tensors(resumed)
    assert there.keys() == here.keys() and all(torch.equal(there[name], here[name]) for name in there)
    assert Sampler(state.ema.average).sample(5).shape == (5, *SHAPE)


def test_every_pair_is_trained_or_refused():
    trained = {pair for row in ROWS if row not in UNTRAINED for pair in pairs_of(row)}
    assert trained | REFUSED.keys() == set(all_pairs(FACTORS)) and not trained & REFUSED.keys()


@pytest.mark.parametrize("row", TRAINED, ids=name_of)
def test_combination_trains_resumes_and_samples(row, tmp_path: Path):
    trains_resumes_and_samples(configuration(row), tmp_path)


@pytest.mark.parametrize("row", UNTRAINED, ids=name_of)
def test_refused_combination_names_reason_and_remedy(row):
    (reason,) = [REFUSED[pair] for pair in pairs_of(row) & REFUSED.keys()]
    with pytest.raises(ConfigError, match=rf"(?s){reason}.*(?:[tT]ake|[uU]se) "):
        begin(configuration(row))


@pytest.mark.parametrize("model", CHOICES["model"])
def test_own_recipe_of_a_model_trains(model, tmp_path: Path):
    """Put together from its groups, as the combinations are, it is what a user's command composes."""
    row, composed = own(model), plain(f"model={model}")
    config = configuration(row)
    beta = {"diversity": {"weight": composed["model"]["beta"]}}
    assert OmegaConf.merge(config["objective"], {"terms": beta}) == composed["objective"]
    assert all(config["model"][part] == composed["model"][part] for part in ("gate", "experts", "head"))
    trains_resumes_and_samples(config, tmp_path)
