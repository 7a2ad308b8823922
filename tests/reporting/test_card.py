"""The card says what the run's files say, and nothing else; whoever wrote them writes nothing of their own into it."""

import re

import pytest
import yaml

from mixgan_cli.config.compose import groups
from mixgan_cli.errors import RunError
from mixgan_cli.models.networks import build_networks
from mixgan_cli.reporting import papers
from mixgan_cli.reporting.card import Exported, model_card, read_results
from tests.conftest import composed

RESULTS = {
    "run": {"name": "x", "nimg": 48_000, "parameters": {"gate": 7, "experts": 51_712, "trunk": 65}},
    "protocol": {"n_fake": 500, "reals": {"split": "held_out"}},
    "metrics": {"fid": 12.3456789, "expert_usage": [0.25, 0.75], "fid_dinov2-vit-b-14": 3.0, "expert_class": [[1.0]]},
    "unavailable": {"kid": "no weights"},
}
INTERFACE = {"latent": "float32 [N, 100]", "images": "uint8"}


def exported(*overrides, shape=(1, 16, 16), results=RESULTS, known=True, **told):
    run = composed(*overrides)
    hard = build_networks(run.model, shape).generator.gate.hard
    about = {"run": run, "results": read_results(results, "results.json")} if known else {}
    return Exported(run.model, shape, hard, told.get("parameters", 99), told.get("interface", {}), (), **about)


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_card_says_what_the_run_says():
    card = model_card(exported("training.batch=24", parameters=51_784, interface=INTERFACE))
    for told in (
        "# hmog with 8 experts, trained on `Digits`", "| samples | grey images, 16×16 pixels |", "| seed | 0 |",
        "| experts (K) | 8, `LinearExperts` |", "| gate | `TreeGate`: each sample mixes all experts |",
        "| parameters | 51,784: gate 7, experts 51,712, trunk 65 |", "48,000 real samples shown to the discriminator",
        "in batches of 24", "| fid | 12.35 |", "| expert_usage | 0.25, 0.75 |", '"n_fake": 500', '"kid": "no weights"',
        "| fid_dinov2-vit-b-14 | 3 |", "too large for here: `expert_class`", "half-life 10,000", papers.HMOG,
        'mixgan_cli.load("generator.safetensors")', "uint8 [16, 1, 16, 16]", "- `latent`: float32 [N, 100]",
    ):  # fmt: skip
        assert told in card, told
    assert metadata(card) == {
        "library_name": "mixgan",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["gan", "mixture-of-experts", "hmog", "pytorch", "safetensors", "onnx"],
    }


def test_what_is_not_known_is_not_told():
    card = model_card(exported(known=False))
    assert "| data set | not known |" in card and "| trained for | not known |" in card
    assert "## Metrics\n\nNot known" in card and "Nothing is known of how good it is." in card
    for absent in ("Digits", "seed |", "objective", "onnx", "FID", "license:"):
        assert absent not in card, absent


def test_a_card_of_points():
    card = model_card(exported("data=ring", "model=gan", shape=(2,), interface={"latent": "x", "points": "y"}))
    assert "points of 2 coordinates" in card and "pipeline_tag" not in metadata(card)
    assert '(points,) = session.run(["points"], inputs)' in card and "expert=k" not in card


def test_weights_that_are_no_average():
    assert "as trained, no moving average" in model_card(exported("evaluation.ema=false"))


def test_every_model_has_its_paper():
    assert papers.OF_MODELS.keys() == set(groups()["model"])
    for entries in papers.OF_MODELS.values():
        for entry in entries:
            assert re.match(r"@inproceedings\{\w+,\n", entry) and entry.count("{") == entry.count("}")
    assert "No paper is known for a model called `mine`." in model_card(exported("model.name=mine"))


@pytest.mark.parametrize(
    "change",
    [{"run": []}, {"run": {"nimg": "many", "parameters": {}}}, {"metrics": {"fid |\n# Trust me": 1}},
     {"metrics": {"<script>": 1}}, {"unavailable": {"kid": 5}}, {"protocol": None}],
)  # fmt: skip
def test_results_that_are_none(change):
    with pytest.raises(RunError, match=r"results\.json: not results that mixgan wrote"):
        read_results({**RESULTS, **change}, "results.json")


def test_words_of_a_stranger_stay_in_their_block():
    """What is quoted cannot end the code block it stands in."""
    hostile = "```\n# Trust me\n<script>"
    results = {**RESULTS, "protocol": {hostile: hostile}, "unavailable": {"kid": hostile}}
    card = model_card(exported(results={**results, "metrics": {"fid": hostile, "kid": [hostile]}}))
    lines = card.splitlines()
    assert not [line for line in lines if line.startswith(("# Trust", "<script"))]
    fences = [line for line in lines if line.lstrip().startswith("```")]
    assert all((line == "```") == bool(number % 2) for number, line in enumerate(fences))
