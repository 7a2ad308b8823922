"""Protocols: what they record, and that numbers of different protocols are not compared."""

import json
import time
from pathlib import Path

import pytest

from mixgan_cli.config.compose import groups
from mixgan_cli.config.schema import Evaluation
from mixgan_cli.errors import RunError
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.evaluation.protocol import differences, require_comparable
from tests.conftest import TINY, composed
from tests.evaluation.conftest import colours, evaluator

SETTINGS = ("evaluation.extractors=[pixels]", "evaluation.metrics=[fid,ms_ssim]")


def protocol(real, *overrides, about=None):
    return evaluator(real, *SETTINGS, *overrides).measure(colours(60), about or {}).protocol


def test_sets_of_equal_checksums_are_the_same_set():
    """A folder that was renamed; the same pixels by another way of preprocessing."""
    first, second = ({"reals": {"reference": {"checksum": "a", "n": 2, "preprocessing": name}}} for name in "xy")
    assert differences(first, second) == []
    second["reals"]["reference"]["checksum"] = "b"
    assert [line.partition(":")[0] for line in differences(first, second)] == [
        "reals.reference.checksum",
        "reals.reference.preprocessing",
    ]


def test_sample_seeds_do_not_change_the_protocol():
    real = colours(50)
    first, second = protocol(real, about={"sample_seeds": [1]}), protocol(real, about={"sample_seeds": [2], "nimg": 7})
    assert differences(first, second) == []
    require_comparable(first, second)


@pytest.mark.parametrize(
    ("overrides", "about", "key"),
    [
        (("evaluation.n_fake=30",), {}, "n_fake: 60 and 30"),
        (("evaluation.extractors=[pixels,inception-v3-compat]", "evaluation.feature_layer=64"), {}, "feature_layer"),
        (("evaluation.ms_ssim_pairing=all",), {}, "ms_ssim_pairing: disjoint and all"),
        (("evaluation.batch=7",), {}, "batch: 50 and 7"),
        ((), {"ema": False}, "ema: absent and False"),
    ],
)
def test_different_protocols_are_refused_unless_forced(overrides, about, key):
    real = colours(50)
    first = protocol(real)
    second = protocol(real, "evaluation.download=false", *overrides, about=about)
    with pytest.raises(RunError, match="not comparable") as refusal:
        require_comparable(first, second)
    assert key in str(refusal.value)
    require_comparable(first, second, force=True)


def test_protocol_records_all_that_determines_a_number(mixgan):
    """The run is on a data set and is measured with an extractor."""
    told = mixgan("evaluate", f"run={mixgan('train', *TINY).json['run_dir']}", *SETTINGS, "hardware=cpu").json[
        "protocol"
    ]
    expected = {"name": "quick", "n_fake": 500, "n_real": 297, "batch": 50, "precision": "float32", "ema": True}
    assert {key: told[key] for key in expected} == expected and told["seed"] == 2020 == told["sample_seeds"][0]
    assert told["extractors"]["pixels"] == {"name": "pixels", "resize": "none", "weights": None}
    assert told["reals"]["split"] == "held_out"
    assert told["reals"]["held_out"]["preprocessing"] == "scikit-learn digits, 8 px"


def test_named_protocols_record_their_name():
    for choice in groups()["evaluation"]:
        assert composed(f"evaluation={choice}").evaluation.name == choice


def test_protocols_can_be_listed(mixgan):
    outcome = mixgan("evaluate", "--protocol")
    assert outcome.code == 0
    told = {part.partition(":")[0]: part.splitlines() for part in outcome.out.split("\n\n")[1:]}
    assert told.keys() == set(groups()["evaluation"])
    assert "like quick, except" in told["fid50k"][0]
    inherited = ['  metrics: ["fid", "inception_score", "kid", "mixture"]', "  n_fake: 50000", '  split: "train"']
    assert set(inherited) <= set(told["fid50k"])  # the first comes from fid10k
    assert len([line for line in told["quick"] if line[2:].partition(":")[0] in Evaluation.model_fields]) == len(
        Evaluation.model_fields
    )


def test_evaluation_share_is_measured_by_the_clock(mixgan, monkeypatch):
    """The share is of interim evaluations and the training between them, without the final evaluation."""
    took, measure = [], Evaluator.evaluate

    def timed(*arguments):
        began = time.monotonic()
        time.sleep(0.3)
        result = measure(*arguments)
        took.append(time.monotonic() - began)
        return result

    monkeypatch.setattr(Evaluator, "evaluate", timed)
    outcome = mixgan("train", *TINY, "training.evaluate_nimg=40", "evaluation.metrics=[ms_ssim]")
    run = json.loads((Path(outcome.json["run_dir"]) / "results.json").read_text())["run"]
    assert len(took) == 3
    share = sum(took[:2]) / (sum(took[:2]) + run["seconds"])
    assert run["evaluation_share"] == pytest.approx(share, abs=0.02) and 0.05 < share < 0.95
    assert f"evaluations during training took {100 * run['evaluation_share']:.1f} % of the time" in outcome.err


def test_best_state_is_chosen_by_one_protocol(mixgan):
    """The final evaluation has more images, so its values are not compared with interim ones."""
    during = "evaluation.interim={metrics: [ms_ssim], n_fake: 6, n_real: 6}"
    outcome = mixgan("train", *TINY, "training.evaluate_nimg=40", during, "evaluation.metrics=[ms_ssim,knn]")
    run = Path(outcome.json["run_dir"])
    assert json.loads((run / "results.json").read_text())["run"]["best"]["metric"] == "ms_ssim"
    assert 0 < json.loads((run / "results.json").read_text())["run"]["evaluation_share"] < 1
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["protocol"] for record in told if "protocol" in record] == [
        "quick_interim",
        "quick_interim",
        "quick",
    ]


def test_fid50k_compares_with_the_training_set():
    evaluation = composed("evaluation=fid50k").evaluation
    assert (evaluation.n_fake, evaluation.n_real, evaluation.split) == (50_000, 50_000, "train")


def test_training_set_can_be_the_reference(mixgan):
    outcome = mixgan("train", *TINY, "evaluation.split=train")
    assert outcome.code == 0, outcome.err
    held_out = mixgan("train", *TINY)
    assert outcome.json["metrics"]["ms_ssim_real"] != held_out.json["metrics"]["ms_ssim_real"]
