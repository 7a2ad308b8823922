import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mixgan_cli
from mixgan_cli.errors import ConfigError
from mixgan_cli.evaluation.evaluator import Evaluator

SHORT = ("evaluation.download=false", "evaluation.n_fake=16", "evaluation.n_real=16", "hardware=cpu")


@pytest.fixture
def run(mixgan, finished):
    return finished()


def test_evaluating_a_run_repeats_its_results(mixgan, run):
    outcome = mixgan("evaluate", f"run={run}", *SHORT, "to=answer.json")
    results = json.loads((run / "results.json").read_text())
    assert outcome.json["metrics"] == results["metrics"]
    assert json.loads(Path("answer.json").read_text()) == outcome.json
    assert outcome.json["protocol"]["checkpoint"] == "last" and outcome.json["protocol"]["nimg"] == 120
    other = mixgan("evaluate", f"run={run}", *SHORT, "seed=5")
    assert other.json["metrics"]["ms_ssim"] != results["metrics"]["ms_ssim"]
    assert other.json["protocol"]["sample_seeds"] == [5]


def test_evaluations_stay_in_the_run(mixgan, run):
    """One file per protocol and state; the page shows them, and compare= takes the one that can be compared."""
    few = ("evaluation.n_fake=12", "evaluation.n_real=12")
    assert mixgan("evaluate", f"run={run}", *SHORT, *few).code == 0
    again = mixgan("evaluate", f"run={run}", *SHORT, *few)
    (file,) = (run / "evaluations").glob("*.json")
    kept = json.loads(file.read_text())
    assert file.name.startswith("quick-") and kept["metrics"] == again.json["metrics"]
    assert mixgan("evaluate", f"run={run}", *SHORT, *few, "checkpoint=best").code == 0
    assert len(list((run / "evaluations").glob("*.json"))) == 2
    compared = mixgan("evaluate", f"run={run}", *SHORT, *few, "seed=5", f"compare={run}")
    assert compared.code == 0 and compared.json["compared"]["metrics"] == kept["metrics"]
    page = mixgan("report", str(run), "hardware=cpu")
    assert "protocol quick, 12 against 12 samples" in Path(page.json["page"]).read_text()


def test_evaluation_adds_unavailable_metrics_to_the_results(mixgan, run):
    results = json.loads((run / "results.json").read_text())
    value = results["metrics"].pop("ms_ssim")
    results["unavailable"]["ms_ssim"] = "no time"
    (run / "results.json").write_text(json.dumps(results))
    assert mixgan("evaluate", f"run={run}", *SHORT, "seed=5").code == 0  # another draw: not that of the results
    assert "ms_ssim" in json.loads((run / "results.json").read_text())["unavailable"]
    outcome = mixgan("evaluate", f"run={run}", *SHORT)
    filled = json.loads((run / "results.json").read_text())
    assert filled["metrics"]["ms_ssim"] == value and "ms_ssim" not in filled["unavailable"]
    assert "results.json: added ms_ssim" in outcome.err


def test_people_get_a_table(mixgan, run):
    outcome = mixgan("evaluate", f"run={run}", *SHORT)
    lines = outcome.err.splitlines()
    (row,) = [line for line in lines if line.startswith("knn_fake ")]
    assert row.split() == ["knn_fake", f"{outcome.json['metrics']['knn_fake']:.4g}", "nearest", "to", "0.5"]
    assert any(line.startswith("protocol quick: 16 against 16 samples") for line in lines)


def test_run_that_cannot_be_written_is_evaluated(mixgan, run):
    (run / "evaluations").write_text("in the way")
    outcome = mixgan("evaluate", f"run={run}", *SHORT)
    assert outcome.code == 0 and "does not keep the evaluation" in outcome.err and outcome.json["metrics"]


def test_deleted_run_is_not_made_again(mixgan, run, monkeypatch):
    real = Evaluator.evaluate

    def delete(*arguments):
        shutil.rmtree(run)
        return real(*arguments)

    monkeypatch.setattr(Evaluator, "evaluate", delete)
    outcome = mixgan("evaluate", f"run={run}", *SHORT)
    assert outcome.code == 0 and "does not keep the evaluation (it was deleted or moved)" in outcome.err
    assert not run.exists()


def test_null_n_fake_is_the_size_of_the_reference(mixgan, run):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.save("reference.npy", images)
    all_of_it = ("evaluation.n_fake=null", "evaluation.n_real=null")
    outcome = mixgan("evaluate", f"run={run}", "reference=reference.npy", *SHORT, *all_of_it)
    assert outcome.json["protocol"]["n_fake"] == outcome.json["protocol"]["n_real"] == 12


def test_checkpoint_can_be_a_file(mixgan, run):
    by_name = mixgan("evaluate", f"run={run}", "checkpoint=best", *SHORT).json
    by_file = mixgan("evaluate", f"checkpoint={run}/checkpoints/best.pt", *SHORT).json
    assert by_file["metrics"] == by_name["metrics"] and by_file["protocol"]["nimg"] == by_name["protocol"]["nimg"]
    outcome = mixgan("evaluate", "checkpoint=nowhere.pt", *SHORT)
    assert outcome.code == 2 and "nowhere.pt: there is no such checkpoint" in outcome.err
    torch.save({"weight": torch.zeros(1)}, "foreign.pt")
    outcome = mixgan("evaluate", "checkpoint=foreign.pt", *SHORT)
    assert outcome.code == 2 and "foreign.pt: cannot be read as a checkpoint (ValueError: it should hold" in outcome.err
    outcome = mixgan("evaluate", f"run={run}", "checkpoint=best.pt", *SHORT)
    assert outcome.code == 2 and "give either run=DIR" in outcome.err


def test_pixels_of_other_sizes_are_unavailable_with_the_sizes(mixgan, run):
    words = ("evaluation.extractors=[pixels]", "evaluation.metrics=[fid,kid]", "data=digits", "data.size=16")
    outcome = mixgan("evaluate", f"run={run}", *SHORT, *words)
    reason = "pixels of images of different shapes, [1, 8, 8] and [1, 16, 16], have no distance"
    assert set(outcome.json["unavailable"].values()) == {reason}


def test_compare_adds_another_result(mixgan, run):
    """Other latents are the same protocol; fewer images are another one, and are not compared unless forced."""
    results = json.loads((run / "results.json").read_text())
    same = mixgan("evaluate", f"run={run}", *SHORT, "seed=5", f"compare={run}")
    assert same.code == 0, same.err
    assert same.json["compared"] == {"with": str(run), "metrics": results["metrics"], "differences": []}
    assert same.json["metrics"]["ms_ssim"] != results["metrics"]["ms_ssim"]
    (line,) = [line.split() for line in same.err.splitlines() if line.startswith("ms_ssim ")]
    assert line[1:3] == [f"{each['ms_ssim']:.4g}" for each in (same.json["metrics"], results["metrics"])]
    fewer = ("evaluate", f"run={run}", *SHORT, "evaluation.n_fake=10", f"compare={run}/results.json", "to=fewer.json")
    refused = mixgan(*fewer)
    assert refused.code == 2 and "n_fake: 10 and 16" in refused.err and "force=true" in refused.err
    assert json.loads(Path("fewer.json").read_text())["protocol"]["n_fake"] == 10  # what was measured is kept
    forced = mixgan(*fewer, "force=true")
    assert forced.code == 0 and "n_fake: 10 and 16" in forced.json["compared"]["differences"]
    against_itself = mixgan(*fewer[:-2], "compare=fewer.json")
    assert against_itself.json["compared"]["metrics"] == against_itself.json["metrics"]


RESULT = '{"metrics": {}, "unavailable": {}, "protocol": %s}'
DEEP = "[" * 500 + "]" * 500


@pytest.mark.parametrize(
    "content", [None, "[]", "{}", "not JSON", *(RESULT % part for part in ("{}", "3", "[1]", f'{{"a": {DEEP}}}'))]
)
def test_invalid_compare_is_refused_before_evaluation(mixgan, run, content):
    if content is not None:
        Path("other.json").write_text(content)
    outcome = mixgan("evaluate", f"run={run}", *SHORT, "compare=other.json", "to=answer.json")
    assert outcome.code == 2 and "compare=other.json: no metrics with their protocol" in outcome.err
    assert not Path("answer.json").exists()


def test_ema_selects_the_weights(mixgan, finished):
    run = finished("training.ema_ramp_up=null")
    ema, raw = (mixgan("evaluate", f"run={run}", *SHORT, f"evaluation.ema={ema}").json for ema in ("true", "false"))
    assert ema["protocol"]["ema"] and not raw["protocol"]["ema"]
    assert ema["metrics"]["ms_ssim"] != raw["metrics"]["ms_ssim"]


def test_norm_batch_is_in_the_protocol_if_it_is_set(mixgan, run):
    set_, null = (mixgan("evaluate", f"run={run}", *SHORT, f"evaluation.norm_batch={n}").json for n in (8, "null"))
    assert set_["protocol"]["norm_batch"] == 8 and "norm_batch" not in null["protocol"]
    assert mixgan("evaluate", f"run={run}", *SHORT, "evaluation.norm_batch=1").code == 2


def test_images_against_a_data_set_or_images(mixgan, run):
    npz = mixgan("sample", f"run={run}", "n=20", "format=npz", "hardware=cpu").json["to"]
    folder = mixgan("sample", f"run={run}", "n=20", "format=png", "hardware=cpu").json["to"]
    settings = ("data=digits", "data.size=8", *SHORT)
    by_array, by_files = (mixgan("evaluate", f"images={path}", *settings).json for path in (npz, folder))
    zipped = shutil.make_archive("pictures", "zip", folder)
    assert mixgan("evaluate", f"images={zipped}", *settings).json["metrics"] == by_files["metrics"]
    assert by_array["metrics"] == by_files["metrics"] and by_array["metrics"]["knn_fake"] > 0.5
    against = mixgan("evaluate", f"images={npz}", f"reference={folder}", *SHORT)
    assert against.code == 0 and against.json["protocol"]["reals"]["reference"]["n"] == 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], "give either run=DIR"), (["images=x.npz"], "needs reference=PATH or data=NAME"),
     (["run=nowhere"], "not a run's folder"), (["images=nowhere", "data=digits"], "no such folder"),
     (["images=points.npy", "data=ring"], "uint8")],
)  # fmt: skip
def test_invalid_evaluations_are_refused(mixgan, tmp_path, arguments, told):
    np.save(tmp_path / "points.npy", np.zeros((10, 2)))
    outcome = mixgan("evaluate", *arguments, *SHORT)
    assert outcome.code == 2 and told in outcome.err and "Traceback" not in outcome.err


def test_files_naming_other_code_are_refused(mixgan, run):
    """A file could name any function; only mixgan's parts are built, and those of packages the user trusts."""
    stored = run / "checkpoints" / "generator.safetensors"
    with safe_open(stored, framework="pt") as opened:
        model, shape = (json.loads(opened.metadata()[key]) for key in ("model", "shape"))
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    model["gate"] = {"_target_": "os.system", "command": "touch harm"}
    save_file(tensors, "hostile.safetensors", metadata={"model": json.dumps(model), "shape": json.dumps(shape)})
    with pytest.raises(ConfigError, match=r"os\.system is not a component of mixgan"):
        mixgan_cli.load("hostile.safetensors")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("mixgan_cli.models.TreeGate", "os.system"))
    outcome = mixgan("evaluate", f"run={run}", *SHORT)
    assert outcome.code == 2 and "os.system is not a component of mixgan" in outcome.err
    assert not Path("harm").exists()


def test_own_result_is_replaced_and_other_files_are_kept(mixgan, run):
    command = ("evaluate", f"run={run}", *SHORT, "to=answer.json")
    assert mixgan(*command).code == 0 and mixgan(*command, "seed=1").code == 0
    stored = (run / "results.json").read_text()
    for mine in ("mine", "{}", "[1]", stored):
        Path("answer.json").write_text(mine)
        outcome = mixgan(*command)
        assert outcome.code == 2 and "to=answer.json: it would be replaced" in outcome.err and outcome.out == ""
        assert Path("answer.json").read_text() == mine
    assert mixgan(*command, "force=true").code == 0 and "protocol" in json.loads(Path("answer.json").read_text())


def test_result_through_a_link_and_standard_output(run, start):
    Path("away").mkdir()
    Path("link.json").symlink_to("away/answer.json")
    assert start("evaluate", f"run={run}", *SHORT, "to=link.json").finish().code == 0
    assert Path("link.json").is_symlink()
    ended = start("evaluate", f"run={run}", *SHORT, "to=/dev/stdout").finish()
    assert ended.code == 0 and ended.out.startswith(Path("away/answer.json").read_text())
    assert json.loads(ended.out.splitlines()[-1])["metrics"]
