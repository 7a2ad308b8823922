"""The program as a user calls it: runs, folders, resume, faults."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from mixgan_cli.config.compose import groups
from mixgan_cli.data.datasets.mnist import IDX
from mixgan_cli.evaluation.inception import file_checksum
from mixgan_cli.training.checkpoint import read_state
from tests.conftest import TINY

POINTS = [setting for setting in TINY if not setting.startswith(("data.size", "model.backbone"))]


def weights(run_dir):
    """Every tensor of a run's final state."""
    state = read_state(Path(run_dir) / "checkpoints" / "last.pt")
    flat = {}
    for part in ("generator", "discriminator", "ema"):
        flat |= {f"{part}.{name}": tensor for name, tensor in state[part].items()}
    for player, optimizer in state["optimizers"].items():
        for number, entries in optimizer["state"].items():
            flat |= {f"{player}.{number}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    return flat


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def lines(run_dir):
    return [json.loads(line) for line in (Path(run_dir) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def run(mixgan, finished):
    """A finished tiny run, in the current folder."""
    return finished()


def test_run_folder_has_all_files(mixgan, run):
    for name in (
        "config.yaml", "metrics.jsonl", "results.json", "environment.json", "DONE", "checkpoints/last.pt",
        "checkpoints/best.pt", "checkpoints/generator.safetensors",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    grids = sorted((run / "samples").glob("*.png"))
    assert [grid.stem for grid in grids] == ["000000000", "000000120", "real"]
    assert Image.open(grids[-1]).size[0] > 400

    results = json.loads((run / "results.json").read_text())
    assert results.keys() == {"run", "protocol", "metrics", "unavailable"}
    assert {"name", "seed", "hash", "nimg", "seconds", "img_per_second", "parameters"} <= results["run"].keys()
    assert results["run"]["parameters"].keys() == {"gate", "experts", "trunk", "generator", "discriminator"}
    assert results["run"]["nimg"] == 120 and results["run"]["hash"] in run.name
    assert set(results["unavailable"]) == {
        "fid",
        "inception_score",
    }  # not jsd_experts: HMoG has no classifier of experts
    assert {"ms_ssim", "knn_real", "knn_fake", "gate_entropy", "expert_usage"} <= results["metrics"].keys()
    assert sum(results["metrics"]["expert_usage"]) == pytest.approx(1)
    assert results["protocol"]["n_fake"] == 16 and results["protocol"]["ema"] is True
    assert results["protocol"]["reals"]["held_out"]["checksum"]

    environment = json.loads((run / "environment.json").read_text())
    assert {"torch", "python", "git_commit", "git_dirty", "device", "command"} <= environment.keys()
    assert OmegaConf.load(run / "config.yaml").model.k == 8


def test_stdout_ends_with_one_json_object(mixgan):
    outcome = mixgan("train", *TINY)
    assert outcome.out.count("\n") == 1
    assert Path(outcome.json["run_dir"], "DONE").is_file() and "ms_ssim" in outcome.json["metrics"]


def test_log_has_losses_speed_and_evaluations(run):
    records = lines(run)
    assert [record["nimg"] for record in records] == [40, 80, 120, 120]
    for record in records[:-1]:
        assert {
            "step",
            "seconds",
            "loss/discriminator",
            "loss/generator",
            "loss/penalty",
            "img_per_second",
        } <= record.keys()
    assert "ms_ssim" in records[-1]


def test_finished_run_prints_its_results(mixgan, run):
    before = weights(run)
    outcome = mixgan("train", *TINY)
    assert outcome.code == 0 and "this run is finished" in outcome.err
    assert outcome.json["run_dir"] == str(run) and outcome.json["metrics"]["ms_ssim"] == lines(run)[-1]["ms_ssim"]
    assert same(weights(run), before) and len(lines(run)) == 4
    forced = mixgan("train", *TINY, "force=true")
    assert forced.json["run_dir"] == f"{run}-2" and same(weights(forced.json["run_dir"]), before)


def test_best_checkpoint_follows_interim_evaluations(mixgan):
    outcome = mixgan("train", *TINY, "training.evaluate_nimg=40")
    run_dir = Path(outcome.json["run_dir"])
    evaluations = [record for record in lines(run_dir) if "ms_ssim" in record]
    assert [record["nimg"] for record in evaluations] == [40, 80, 120]
    best = read_state(run_dir / "checkpoints" / "best.pt")["progress"]
    figures = [abs(r["knn_fake"] - 0.5) + abs(r["knn_real"] - 0.5) for r in evaluations]
    assert best["best"]["metric"] == "knn_fake" and best["best"]["rank_value"] == pytest.approx(min(figures))
    assert best["nimg"] == best["best"]["nimg"] == evaluations[figures.index(min(figures))]["nimg"]


def test_evaluations_and_samples_do_not_change_the_weights(mixgan):
    plain = mixgan("train", *TINY, "evaluation=none")
    busy = mixgan("train", *TINY, "training.evaluate_nimg=40", "training.sample_nimg=40")
    assert plain.json["run_dir"] != busy.json["run_dir"]
    assert same(weights(plain.json["run_dir"]), weights(busy.json["run_dir"]))


def test_finished_run_warns_if_its_weights_changed(mixgan, run):
    """The path of the Inception weights is not part of the identity, so their checksum is compared."""
    Path("one.pth").write_bytes(b"one")
    Path("other.pth").write_bytes(b"other")
    results = json.loads((run / "results.json").read_text())
    checksum = file_checksum(Path("one.pth"))
    for recorded in ({"inception-v3-compat": {"weights": checksum}}, {"inception-v3-compat": 3}, {}, 3):
        results["protocol"]["extractors"] = recorded
        (run / "results.json").write_text(json.dumps(results))
        for name, warns in (
            ("one.pth", False),
            ("other.pth", checksum in str(recorded)),
        ):
            outcome = mixgan("train", *TINY, f"evaluation.weights={name}")
            assert outcome.code == 0 and "this run is finished" in outcome.err
            assert (f"{name}: these are other Inception weights" in outcome.err) == warns


def test_finished_run_warns_if_its_data_changed(mixgan, tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    for number in range(30):
        Image.new("L", (8, 8), 8 * number).save(faces / f"{number:02d}.png")
    words = (
        "train",
        *TINY,
        "data=folder",
        f"data.root={faces}",
        "data.size=8",
        "data.channels=1",
        "data.held_out=10",
    )
    assert mixgan(*words, "evaluation.metrics=[knn]", "evaluation.n_real=8").code == 0
    again = mixgan(*words, "evaluation.metrics=[knn]", "evaluation.n_real=8")
    assert again.code == 0 and "is finished" in again.err and "warning: the data have changed" not in again.err
    Image.new("L", (8, 8), 255).save(faces / "07.png")
    changed = mixgan(*words, "evaluation.metrics=[knn]", "evaluation.n_real=8")
    assert changed.code == 0 and "warning: the data have changed since this run" in changed.err
    for path in faces.glob("*.png"):
        path.unlink()
    gone = mixgan(*words, "evaluation.metrics=[knn]", "evaluation.n_real=8")
    assert gone.code == 0 and "warning: the data have changed" not in gone.err


def test_seed_determines_the_weights(mixgan):
    first, second = mixgan("train", *TINY, "seed=1"), mixgan("train", *TINY, "seed=2")
    again = mixgan("train", *TINY, "seed=1", "paths.outputs=elsewhere")
    assert same(weights(first.json["run_dir"]), weights(again.json["run_dir"]))
    assert not same(weights(first.json["run_dir"]), weights(second.json["run_dir"]))


RECIPES = [f"model={model}" for model in groups()["model"]]
SHOWN = ["training.flips=true", "objective/augment=diffaugment"]


@pytest.mark.parametrize("choice", [*RECIPES, "data=ring", *SHOWN])
def test_resume_is_bitwise_equal(mixgan, choice):
    """Every model in its own recipe; every objective with every part resumes in tests/training/test_family.py."""
    settings = [*(POINTS if choice == "data=ring" else TINY), choice, "objective.d_steps=2", "training.batch=4"]
    settings += ["training.fakes=4", "model.k=1" if choice in ("model=gan", "model=d2gan") else "model.k=2"]
    settings += ["training.checkpoint_nimg=8", "evaluation=none"]
    whole = mixgan("train", *settings, "training.nimg=32", "paths.run=whole")
    assert whole.code == 0, whole.err
    assert mixgan("train", *settings, "training.nimg=16", "paths.run=parts").code == 0
    _as_if_interrupted(Path("parts"), 32)
    resumed = mixgan("train", *settings, "training.nimg=32", "paths.run=parts")
    assert resumed.code == 0 and "resumed at 16 images" in resumed.err
    assert same(weights("whole"), weights("parts"))
    sampled = mixgan("sample", "run=parts", "n=4", "hardware=cpu")
    assert sampled.code == 0 and Path(sampled.json["to"]).is_file()


def _as_if_interrupted(run_dir, nimg):
    """Make a run that ended at its length look like one of a longer run that was stopped there."""
    (run_dir / "DONE").unlink()
    config = OmegaConf.load(run_dir / "config.yaml")
    config.training.nimg = nimg
    OmegaConf.save(config, run_dir / "config.yaml")
    path = run_dir / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    state["config"]["training"]["nimg"] = nimg
    torch.save(state, path)


LONGER = [*TINY, "training.nimg=2000", "training.checkpoint_nimg=80", "evaluation=none", "paths.outputs=out"]


def test_killed_run_resumes_to_the_same_weights(mixgan, start, tmp_path):
    """SIGKILL in the middle of a real process, the same command again, against a run that was never stopped."""
    whole = mixgan("train", *LONGER, "paths.run=whole")
    assert whole.code == 0, whole.err
    killed = tmp_path / "killed"
    for _ in range(2):  # killed twice, at different places
        process = start("train", *LONGER, f"paths.run={killed}")
        logged = _wait_for_progress(process, killed)
        process.kill()
        assert not (killed / "DONE").exists() and logged < 2000
    resumed = mixgan("train", *LONGER, f"paths.run={killed}")
    assert resumed.code == 0 and "resumed at" in resumed.err
    assert same(weights("whole"), weights(killed))
    assert [r["nimg"] for r in lines(killed)] == [r["nimg"] for r in lines("whole")]
    assert [r["loss/generator"] for r in lines(killed)] == [r["loss/generator"] for r in lines("whole")]


def _wait_for_progress(process, run_dir, more=200):
    """Wait until a process has trained `more` images beyond the state it began with; return how many in all."""
    log, seen = run_dir / "metrics.jsonl", []

    def far_enough():
        text = log.read_text() if (run_dir / "checkpoints" / "last.pt").is_file() and log.is_file() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        seen.extend(json.loads(line)["nimg"] for line in whole[-1:])
        return seen and seen[-1] >= seen[0] + more

    process.wait_for(far_enough)
    return seen[-1]


def test_checkpoint_of_another_configuration_is_refused(mixgan):
    assert mixgan("train", *TINY, "paths.run=here").code == 0
    Path("here/DONE").unlink()
    outcome = mixgan("train", *TINY, "paths.run=here", "model.k=4", "seed=3")
    assert outcome.code == 2
    assert "model.k: 8 there, 4 here" in outcome.err and "seed: 0 there, 3 here" in outcome.err
    # Also where only the checkpoint is foreign, not the folder's configuration:
    assert mixgan("train", *TINY, "paths.run=there", "model.k=4").code == 0
    Path("here/checkpoints/last.pt").write_bytes(Path("there/checkpoints/last.pt").read_bytes())
    outcome = mixgan("train", *TINY, "paths.run=here")
    assert outcome.code == 2 and "a checkpoint of another configuration" in outcome.err
    assert "model.k: 4 there, 8 here" in outcome.err and "Traceback" not in outcome.err


def test_epochs_are_converted_before_the_run_is_named(mixgan, tmp_path):
    np.save(tmp_path / "set.npy", np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8))
    settings = [setting for setting in TINY if setting != "data.size=8"]
    settings += [
        "data=arrays",
        "data.root=set.npy",
        "data.held_out=10",
        "evaluation.n_fake=null",
        "evaluation.n_real=null",
    ]
    run = Path(mixgan("train", *settings, "training.nimg=null", "training.epochs=2").json["run_dir"])
    training = OmegaConf.load(run / "config.yaml").training
    assert training.nimg == 2 * 40 and training.epochs is None
    results = json.loads((run / "results.json").read_text())
    assert results["run"]["nimg"] == 80
    assert results["protocol"]["n_fake"] == results["protocol"]["n_real"] == 10
    again = mixgan("train", *settings, "training.nimg=80")
    assert again.json["run_dir"] == str(run) and "this run is finished" in again.err
    other = mixgan("train", *settings, "training.nimg=null", "training.epochs=3", f"paths.run={run}")
    assert other.code == 2 and "training.nimg: 80 there, 120 here" in other.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["training.nimg=null", "training.epochs=2"], "training.epochs=2: the data set has no fixed number of samples"),
     (["evaluation.n_real=null"], "evaluation.n_real=null: the data set holds out no fixed number of samples")],
)  # fmt: skip
def test_epochs_are_refused_for_generated_points(mixgan, overrides, message):
    outcome = mixgan("train", *POINTS, "data=ring", *overrides)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_resume_with_changed_data_is_refused(mixgan, tmp_path):
    (tmp_path / "set").mkdir()
    settings = [*TINY, "data=folder", "data.root=set", "paths.run=here"]
    for shade in (1, 5):
        for number in range(40):
            Image.new("RGB", (16, 16), (shade * number, 0, 0)).save(tmp_path / "set" / f"{number}.png")
        outcome = mixgan("train", *settings)
        Path("here/DONE").unlink(missing_ok=True)
    assert outcome.code == 2 and "a checkpoint of other data" in outcome.err and "train.checksum" in outcome.err


def test_damaged_checkpoint_is_reported(mixgan):
    assert mixgan("train", *TINY, "paths.run=here").code == 0
    Path("here/DONE").unlink()
    path = Path("here/checkpoints/last.pt")
    path.write_bytes(path.read_bytes()[:1000])
    outcome = mixgan("train", *TINY, "paths.run=here")
    assert outcome.code == 2 and "last.pt: cannot be read as a checkpoint" in outcome.err
    assert "last.pt" in Path("here/FAILED").read_text()


def test_non_finite_loss_stops_with_a_diagnosis(mixgan):
    outcome = mixgan("train", *TINY, "objective.optimizer.discriminator.lr=1e30", "paths.run=here")
    assert outcome.code == 1 and "Traceback" not in outcome.err
    for told in ("training diverged by step", "loss/discriminator", "All weights are still finite", "diverged.pt"):
        assert told in outcome.err
    assert read_state(Path("here/checkpoints/diverged.pt"))["progress"]["nimg"] > 0
    assert "TrainingStopped" in Path("here/FAILED").read_text() and not Path("here/DONE").exists()
    assert not Path("here/checkpoints/last.pt").exists()  # nothing good was overwritten, nothing bad kept as good


@pytest.mark.parametrize("outputs", ["/proc/nowhere", "file/below"])
@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=["run", "sweep"])
def test_unwritable_outputs_are_refused(mixgan, outputs, sweep, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    outcome = mixgan("train", *sweep, *TINY, f"paths.outputs={outputs}")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_missing_gpu_is_refused(mixgan, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = mixgan("train", *TINY, "hardware=gpu")
    assert outcome.code == 2 and "hardware=gpu: torch finds no CUDA device" in outcome.err
    assert not list(Path("outputs").glob("*-*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["data=folder", "data.root=missing"], "no such folder or zip"), (["data=folder", "data.root=empty"], "no images"),
     (["data=folder", "data.root=broken"], "bad.png"), (["data=mnist", "data.root=mnist"], "truncated or damaged"),
     (["data=arrays", "data.root=set.npy"], "no such file")],
)  # fmt: skip
def test_invalid_data_are_refused(mixgan, tmp_path, arguments, told):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    for number in range(20):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "broken" / f"{number}.png")
    (tmp_path / "broken" / "bad.png").write_bytes(b"\x89PNG nothing")
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in IDX:
        (raw / file).write_bytes(b"\x00\x00\x08\x03\x00\x00\xea\x60")
    size = [] if "arrays" in arguments[0] else ["data.size=8"]
    settings = [setting for setting in TINY if setting != "data.size=8"]
    outcome = mixgan("train", *settings, *arguments, *size)
    assert outcome.code == 2 and told in outcome.err and "Traceback" not in outcome.err


def test_data_set_smaller_than_a_batch_is_refused(mixgan, tmp_path):
    (tmp_path / "few").mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "few" / f"{number}.png")
    outcome = mixgan("train", *TINY, "data=folder", "data.root=few", "data.held_out=0.25")
    assert outcome.code == 2 and "training.batch=8: the data set has only 3 images" in outcome.err


def test_folder_of_images_trains(mixgan, tmp_path):
    (tmp_path / "set").mkdir()
    for number in range(40):
        Image.new("RGB", (20, 16), (6 * number, 0, 0)).save(tmp_path / "set" / f"{number}.png")
    outcome = mixgan("train", *TINY, "data=folder", "data.root=set")
    assert outcome.code == 0, outcome.err


def test_points_train_and_are_drawn(mixgan):
    outcome = mixgan("train", *POINTS, "data=ring")
    assert outcome.code == 0, outcome.err
    assert 0 <= outcome.json["metrics"]["modes_covered"] <= 8 and "fid" not in outcome.json["metrics"]
    assert Image.open(sorted(Path(outcome.json["run_dir"], "samples").glob("*.png"))[-1]).size == (600, 600)


def test_points_train_without_pictures(mixgan):
    outcome = mixgan("train", *POINTS, "data=ring", "training.sample_nimg=null")
    assert outcome.code == 0 and Path(outcome.json["run_dir"], "DONE").is_file(), outcome.err
    assert not Path(outcome.json["run_dir"], "figures", "snapshots.png").exists()


def test_each_job_of_a_sweep_is_a_wandb_run(mixgan, offline):
    """For real, offline; the flag in the middle, where people put it."""
    outcome = mixgan("train", *TINY, "logger=wandb", "-m", "model.k=2,4")
    assert outcome.code == 0, outcome.err
    folders = [Path(json.loads(line)["run_dir"]) for line in outcome.out.splitlines()[:-1]]  # the last is the sweep's
    ids = {(folder / "wandb_id").read_text() for folder in folders}
    assert len(folders) == len(ids) == 2
    assert all(list(folder.glob("wandb/offline-run-*/*.wandb")) for folder in folders)


def test_failing_logger_does_not_stop_the_run(mixgan, monkeypatch, tmp_path):
    import wandb

    def refuse(**settings):
        raise RuntimeError("service not started")

    monkeypatch.setattr(wandb, "init", refuse)
    outcome = mixgan("train", *TINY, "logger=wandb")
    warning = "WandbLogger failed and is disabled for the rest of the run: service not started"
    assert outcome.code == 0 and warning in outcome.err
    assert Path(outcome.json["run_dir"], "DONE").is_file()


def test_too_few_fakes_per_expert_are_refused(mixgan):
    outcome = mixgan("train", *TINY, "model=mggan", "model.k=3", "training.fakes=4")
    assert outcome.code == 2 and "of 4 fakes a step an expert makes 1 and needs 2" in outcome.err
    assert not Path("outputs").exists() or not list(Path("outputs").glob("*-*"))
