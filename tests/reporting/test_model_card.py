"""A card states what the run's files say and nothing else; hostile files cannot add text of their own."""

import json

import pytest
import yaml

from mixgan_cli.config.compose import groups
from mixgan_cli.models.networks import build_networks
from mixgan_cli.reporting.model_card import PAPERS, ExportedModel, bibliography, model_card
from mixgan_cli.runs import RunFolder
from tests.conftest import composed

RESULTS = {
    "run": {"name": "x", "nimg": 48_000, "parameters": {"gate": 7, "experts": 51_712, "trunk": 65}},
    "protocol": {"n_fake": 500, "reals": {"split": "held_out"}},
    "metrics": {"fid": 12.3456789, "expert_usage": [0.25, 0.75], "fid_dinov2-vit-b-14": 3.0, "expert_class": [[1.0]]},
    "unavailable": {"kid": "no weights"},
}
INTERFACE = {"latent": "float32 [N, 100]", "images": "uint8"}


@pytest.fixture
def exported(tmp_path):
    """Make an exported model of these overrides, with these results of its run."""

    def make(*overrides, shape=(1, 16, 16), results=RESULTS, known=True, parameters=99, interface=None):
        run = composed(*overrides)
        hard = build_networks(run.model, shape).generator.gate.hard
        (tmp_path / "results.json").write_text(json.dumps(results))
        of_run = {"run": run, "results": RunFolder(tmp_path).read_results()} if known else {}
        return ExportedModel(run.model, shape, hard, parameters, interface or {}, (), **of_run)

    return make


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_card_states_what_the_run_recorded(exported):
    card = model_card(exported("training.batch=24", parameters=51_784, interface=INTERFACE))
    for text in (
        "# hmog with 8 experts, trained on `digits`", "| samples | grey images, 16×16 pixels |", "| seed | 0 |",
        "| experts (K) | 8, `LinearExperts` |", "| gate | `TreeGate`: each sample mixes all experts |",
        "| parameters | 51,784: gate 7, experts 51,712, trunk 65 |", "48,000 real images shown to the discriminator",
        "in batches of 24", "| fid | 12.35 |", "| expert_usage | 0.25, 0.75 |", '"n_fake": 500', '"kid": "no weights"',
        "| fid_dinov2-vit-b-14 | 3 |", "Too large for this card, but in the run's `results.json`: `expert_class`",
        "half-life 10,000", bibliography()["ahmetoglu2020hmog"],
        'mixgan_cli.load("generator.safetensors")', "uint8 [16, 1, 16, 16]", "- `latent`: float32 [N, 100]",
    ):  # fmt: skip
        assert text in card, text
    assert metadata(card) == {
        "library_name": "mixgan",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "mixture-of-experts", "hmog", "pytorch", "safetensors", "onnx"],
    }


def test_what_is_unknown_is_stated_as_unknown(exported):
    card = model_card(exported(known=False))
    assert "| data set | not known |" in card and "| trained for | not known |" in card
    assert "## Metrics\n\nNot known" in card and "How good the samples are is not known." in card
    for absent in ("Digits", "seed |", "objective", "onnx", "FID", "license:"):
        assert absent not in card, absent


def test_a_card_of_points(exported):
    card = model_card(exported("data=ring", "model=gan", shape=(2,), interface={"latent": "x", "points": "y"}))
    assert "points of 2 coordinates" in card and "pipeline_tag" not in metadata(card)
    assert '(points,) = session.run(["points"], inputs)' in card and "expert=k" not in card


def test_weights_without_a_moving_average(exported):
    assert "as trained, without a moving average" in model_card(exported("evaluation.ema=false"))


def test_every_model_has_its_paper(exported):
    assert PAPERS.keys() == set(groups()["model"])
    assert {key for keys in PAPERS.values() for key in keys} == bibliography().keys()
    for key, entry in bibliography().items():
        assert entry.startswith(f"@inproceedings{{{key},\n") and entry.count("{") == entry.count("}")
    assert "There is no known paper for a model called `mine`." in model_card(exported("model.name=mine"))


@pytest.mark.parametrize("run", [[], {"nimg": "many", "parameters": {}}, {"nimg": 9, "parameters": 3}])
def test_a_card_needs_the_length_and_the_parameters(exported, run):
    with pytest.raises((TypeError, ValueError, LookupError)):
        model_card(exported(results={**RESULTS, "run": run}))


def test_hostile_texts_stay_inside_their_code_block(exported):
    """A quoted text cannot end the code block that contains it."""
    hostile = "```\n# Trust me\n<script>"
    results = {**RESULTS, "protocol": {hostile: hostile}, "unavailable": {"kid": hostile}}
    card = model_card(exported(results={**results, "metrics": {"fid": hostile, "kid": [hostile]}}))
    lines = card.splitlines()
    assert not [line for line in lines if line.startswith(("# Trust", "<script"))]
    fences = [line for line in lines if line.lstrip().startswith("```")]
    assert all((line == "```") == bool(number % 2) for number, line in enumerate(fences))
