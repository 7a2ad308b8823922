"""The Makefile's reproduce targets: what they run composes, is what docs/reproducing.md says, and runs when small."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from mixgan_cli.config.components import build
from mixgan_cli.models.networks import build_networks, parameter_counts
from mixgan_cli.reporting.published import matches, published_values
from mixgan_cli.sweeps.plan import plan
from mixgan_cli.training.checks import check_networks
from tests.conftest import ALL, ENVIRONMENT, composed, composition, real_folder

ROOT = Path(__file__).parents[1]
TARGETS = re.findall(r"^(reproduce-[a-z0-9_-]+): setup", (ROOT / "Makefile").read_text(), re.MULTILINE)
WITHOUT_SETUP = ("--no-print-directory", "--old-file=.venv/.installed", f"BIN={Path(sys.executable).parent}")


def commands(target, *options):
    """The words of each command that make would run, the program's own name apart."""
    made = subprocess.run(
        ["make", "--dry-run", *WITHOUT_SETUP, target, "ARGS=", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    parts = re.split(r"\n|;|&&|\|\|", made.replace("\\\n", " "))
    return [shlex.split(part)[1:] for part in parts if "/mixgan " in part]


@cache
def runs(target, *options):
    """A run of each configuration of a target's sweeps, composed."""
    jobs = [
        job for words in commands(target, *options) if words[0] == "train" for job in plan("config", words[1:]).planned
    ]
    found = []
    for job in {tuple(word for word in job if not word.startswith("seed=")): job for job in jobs}.values():
        root = [] if re.search("mnist|pacgan|ring|compare|cifar10", " ".join(job)) else ["data.root=anywhere"]
        found.append(composed(*job, *root))
    return found


def test_targets_are_those_of_the_page():
    sets = [f"hmog-{name}" for name in ("mnist", "fashion_mnist", "utzap50k", "flowers102", "celeba")]
    names = ["mggan-ring", "mggan-cifar10", "mggan-stl10", "mggan-imagenet32", "megan-cifar10", "megan-celeba", *sets]
    names += ["r3gan-cifar10", "sngan-cifar10", "compare", "collapse-ring", "collapse-grid", "collapse-stacked"]
    assert [f"reproduce-{name}" for name in names] == TARGETS
    page = (ROOT / "docs" / "reproducing.md").read_text()
    assert re.findall(r"^\| `(reproduce-\S+)` \|", page, re.MULTILINE) == TARGETS


@pytest.mark.parametrize("smoke", [False, True], ids=["whole", "smoke"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_run_builds_valid_networks(target, smoke):
    found = runs(target, *(["SMOKE=1"] if smoke else []))
    assert found
    for run in found:
        shape = build(run.data).shape
        with torch.device("meta"):
            networks = build_networks(run.model, shape)
        check_networks(networks, run.objective, run.training.batch, run.training.fakes)
        assert (run.training.nimg is not None and run.training.nimg < 100_000) == smoke


@pytest.mark.parametrize("target", ["ring", "grid", "stacked"])
def test_steps_set_the_length_of_runs_of_mode_collapse(target):
    for run in runs(f"reproduce-collapse-{target}", "STEPS=1_000"):
        assert run.training.nimg == 1_000 * run.training.batch


@pytest.mark.parametrize("target", TARGETS)
def test_a_smoke_sweep_composes_before_its_values_are_chosen(target):
    """As Hydra does first: nothing may be taken away that only a swept choice has put there."""
    for words in commands(target, "SMOKE=1"):
        if words[0] == "train":
            overrides = OverridesParser.create().parse_overrides([word for word in words[1:] if word != "-m"])
            assert composition(*(word.input_line for word in overrides if not word.is_sweep_override()))


WITH_VALUES = [name for name in TARGETS if not re.search("ring|compare|collapse|r3gan|sngan", name)]


@pytest.mark.parametrize("target", WITH_VALUES)
def test_every_run_has_a_published_value(target):
    data = target.rpartition("-")[2]
    for run in runs(target):
        assert any(matches(value, run.model.model_dump()) for value in published_values(data))


def test_sngan_s_single_generators_have_published_values():
    """R3GAN's are of networks that are given the class, and no mixture in such networks has been published."""
    found = {
        tuple(run.model.backbone.values()): any(
            matches(value, run.model.model_dump()) for value in published_values("cifar10")
        )
        for run in runs("reproduce-sngan-cifar10")
        if run.model.k == 1
    }
    assert len(found) == 4 and all(found.values())


LENGTHS = {  # images of 50 and of 250 epochs
    "mnist": (3_000_000, 15_000_000),
    "fashion_mnist": (3_000_000, 15_000_000),
    "utzap50k": (2_251_250, 11_256_250),
    "flowers102": (359_450, 1_797_250),
    "celeba": (9_629_950, 48_149_750),
}


@pytest.mark.parametrize("data", LENGTHS)
def test_the_author_s_models_are_trained_for_50_and_250_epochs(data):
    n = {"mnist": 60_000, "fashion_mnist": 60_000, "utzap50k": 50_025, "flowers102": 8_189, "celeba": 202_599}[data]
    for run in runs(f"reproduce-hmog-{data}"):
        held_out = run.data.get("held_out", 0)
        short, long = LENGTHS[data]
        assert run.training.in_images(n - held_out).total_nimg == (long if run.model.name in ("mog", "hmog") else short)
        assert run.data.get("split_seed", run.seed) == run.seed
        assert run.evaluation.n_fake is run.evaluation.n_real is None


@pytest.mark.parametrize("target", [name for name in TARGETS if "-hmog-" in name])
def test_the_author_s_grid_is_five_models_four_k_five_seeds(target):
    (words,) = [words for words in commands(target) if words[0] == "train"]
    jobs = plan("config", words[1:]).planned
    assert len(jobs) == 100 == len(set(jobs))
    assert {word for job in jobs for word in job if word.startswith("seed=")} == {f"seed={2019 + n}" for n in range(5)}
    assert {run.model.name for run in runs(target)} == {"madgan", "mggan", "megan_hidden", "mog", "hmog"}


def test_the_comparison_changes_gate_and_head_alone():
    """One objective, one trunk and body, as many parameters to a third of a per cent; the heads differ by K logits."""
    found = runs("reproduce-compare")
    cells = {(run.model.gate["_target_"], run.model.head["_target_"]) for run in found}
    assert len(found) == len(cells) == 4 * 3 + 1
    objectives = [run.objective.model_dump(mode="json") for run in found]
    for objective in objectives:
        objective["terms"]["diversity"].pop("weight")  # model.beta, 0 without a classifier of experts
    assert all(objective == objectives[0] for objective in objectives)
    assert len({json.dumps(run.model.experts) + json.dumps(run.model.backbone) for run in found}) == 1
    assert len({run.training.model_dump_json() + json.dumps(run.data) for run in found}) == 1
    counts = []
    for run in found:
        with torch.device("meta"):
            counts.append(parameter_counts(build_networks(run.model, build(run.data).shape)))
    for part, tolerance in (("generator", 1.003), ("trunk", 1.0), ("discriminator", 1.05)):
        sizes = [count[part] for count in counts]
        assert max(sizes) <= tolerance * min(sizes), part
    for run in found:
        classifies = "Score" not in run.model.head["_target_"]
        assert run.model.beta == (0.1 if classifies else 0.0)


OF_EACH_KIND = ["mggan-ring", "hmog-celeba", "r3gan-cifar10", "compare", "collapse-stacked"]
"""Targets on points, with five models, with other networks, of two sweeps, and of many."""


@pytest.mark.integ
@pytest.mark.parametrize("target", TARGETS if ALL else [f"reproduce-{name}" for name in OF_EACH_KIND])
def test_smoke(target, tmp_path, tmp_path_factory):
    """Made as a user would, on the real images, prepared once for all."""
    real_folder("MIXGAN_DATA", "cifar10")
    real_folder("MIXGAN_DATA", "FashionMNIST")
    made = subprocess.run(
        ["make", *WITHOUT_SETUP, target, "SMOKE=1", f"OUTPUTS={tmp_path}"], cwd=ROOT, capture_output=True, text=True,
        env={**ENVIRONMENT, "MIXGAN_CACHE": str(tmp_path_factory.getbasetemp() / "cache")}, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    page = Path(json.loads(made.stdout.strip().splitlines()[-1])["page"])
    text = page.read_text(encoding="utf-8")
    done = [json.loads(line)["jobs"] for line in made.stdout.splitlines() if line.startswith('{"sweep_dir"')]
    assert done and all(jobs["done"] and not jobs["failed"] and not jobs["missing"] for jobs in done)
    assert "<article>" in text and "data:image/webp;base64," in text
    if re.search("mggan-cifar10|megan-cifar10|-hmog-.*mnist", target):  # of the set itself, not of one in its place
        assert "Published values and ours" in text and "not comparable: " in text
