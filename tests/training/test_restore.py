"""Any state of a run, at any time: sample, export, evaluate, report and load."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import mixgan_cli
from mixgan_cli.errors import ConfigError, RunError
from tests.conftest import TINY

KEPT = ("training.keep=3", "training.evaluate_nimg=32", "evaluation.metrics=[knn]", "training.checkpoint_nimg=40")


@pytest.fixture
def run(mixgan, finished):
    """A finished run with a best state and states at 40, 80 and 120 images."""
    return finished(*KEPT)


@pytest.fixture
def unfinished(run):
    """The same run before its end: the last state is that at 80 images."""
    for name in ("DONE", "results.json", "checkpoints/generator.safetensors"):
        (run / name).unlink()
    shutil.copy(run / "checkpoints" / "000000080.pt", run / "checkpoints" / "last.pt")
    (run / "checkpoints" / "000000120.pt").unlink()
    return run


def weights(path, which="ema"):
    return torch.load(path, weights_only=True)[which]


def same(sampler, state):
    return all(torch.equal(value, state[name]) for name, value in sampler.generator.state_dict().items())


def test_load_takes_any_checkpoint(run):
    folder = run / "checkpoints"
    assert same(mixgan_cli.load(run), weights(folder / "last.pt"))
    assert same(mixgan_cli.load(run, checkpoint="best"), weights(folder / "best.pt"))
    for name in (40, "40", "000000040"):
        assert same(mixgan_cli.load(run, checkpoint=name), weights(folder / "000000040.pt"))
    assert same(mixgan_cli.load(folder / "best.pt"), weights(folder / "best.pt"))
    assert not same(mixgan_cli.load(run, checkpoint=40), weights(folder / "last.pt"))


def test_checkpoint_that_does_not_exist_names_the_others(run, tmp_path):
    with pytest.raises(RunError, match=r"checkpoint=70: .* There are last, best, 40, 80, 120"):
        mixgan_cli.load(run, checkpoint=70)
    with pytest.raises(RunError, match="not a run's folder"):
        mixgan_cli.load(tmp_path)
    with pytest.raises(ConfigError, match=r"checkpoint=last: .* is not the folder of a run"):
        mixgan_cli.load(run / "checkpoints" / "generator.safetensors", checkpoint="last")


def test_unfinished_run_gives_its_last_state(unfinished, mixgan):
    assert same(mixgan_cli.load(unfinished), weights(unfinished / "checkpoints" / "000000080.pt"))
    outcome = mixgan("sample", f"run={unfinished}", "n=4", "hardware=cpu")
    assert outcome.code == 0 and "not finished; this is its last state" in outcome.err


@pytest.mark.parametrize("checkpoint", ["last", "best", pytest.param("40", marks=pytest.mark.integ)])
def test_commands_take_a_checkpoint(unfinished, mixgan, checkpoint):
    of = (f"run={unfinished}", f"checkpoint={checkpoint}")
    sampled = mixgan("sample", *of, "n=4", "hardware=cpu")
    assert sampled.code == 0 and Path(sampled.json["to"]).name == f"seed0-{checkpoint}-n4.png"
    exported = mixgan("export", *of, "onnx=false")
    assert exported.code == 0 and exported.json["files"] == ["generator.safetensors", "MODEL.md"]
    path = {"last": "000000080", "best": "best", "40": "000000040"}[checkpoint]
    file = Path(exported.json["to"]) / "generator.safetensors"
    assert same(mixgan_cli.load(file), weights(unfinished / "checkpoints" / f"{path}.pt"))
    nimg = torch.load(unfinished / "checkpoints" / f"{path}.pt", weights_only=True)["progress"]["nimg"]
    card = (Path(exported.json["to"]) / "MODEL.md").read_text()
    assert f"a state of the run after {nimg} images" in card and f"| {nimg} real images shown" in card
    measured = mixgan("evaluate", *of, "evaluation.metrics=[knn]", "hardware=cpu", "evaluation.n_fake=16")
    assert measured.code == 0 and measured.json["protocol"]["nimg"] == nimg
    page = mixgan("report", str(unfinished), f"checkpoint={checkpoint}", "redraw=true", "hardware=cpu")
    assert page.code == 0, page.err


def test_equal_generators_are_equal_files(run, mixgan):
    """The library writes metadata in any order; the file must not depend on it."""
    first = (run / "checkpoints" / "generator.safetensors").read_bytes()
    header = json.loads(first[8 : 8 + int.from_bytes(first[:8], "little")])
    assert list(header) == sorted(header) and list(header["__metadata__"]) == sorted(header["__metadata__"])
    assert mixgan("export", f"run={run}", "to=away", "onnx=false").code == 0
    assert Path("away/generator.safetensors").read_bytes() == first


@pytest.mark.parametrize(("name", "form"), [("fakes.npz", "grid"), ("fakes.png", "npz"), ("fakes.npz", "png")])
def test_samples_are_not_written_under_a_wrong_suffix(run, mixgan, name, form):
    outcome = mixgan("sample", f"run={run}", f"to={name}", f"format={form}", "hardware=cpu")
    assert outcome.code == 2 and f"to={name}: format={form} writes" in outcome.err and not Path(name).exists()


def spoil(path, network="ema"):
    """Set one weight in a file to NaN."""
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        next(iter(state[network].values())).view(-1)[0] = float("nan")
        torch.save(state, path)
        return
    with safe_open(path, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        metadata = stored.metadata()
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "words",
    [["sample", "run={run}", "hardware=cpu"], ["export", "run={run}", "to=there"],
     ["train", *TINY, "start_from={run}/checkpoints/generator.safetensors"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_generator_that_is_not_finite_is_refused(mixgan, run, words):
    spoil(run / "checkpoints" / "generator.safetensors")
    outcome = mixgan(*(word.replace("{run}", str(run)) for word in words))
    assert outcome.code == 2 and "weights that are not finite: generator." in outcome.err, outcome.err
    assert not Path("there").exists()


@pytest.mark.parametrize("network", ["generator", "discriminator", "ema"])
def test_state_that_is_not_finite_is_refused(mixgan, run, network):
    spoil(run / "checkpoints" / "last.pt", network)
    longer = [f"continue={run}", "training.nimg=200"]
    for words in (
        ["evaluate", f"run={run}", "hardware=cpu"],
        ["train", *TINY, f"start_from={run}"],
        ["train", *longer],
    ):
        outcome = mixgan(*words)
        assert outcome.code == 2 and f"weights that are not finite: {network}." in outcome.err, outcome.err
    (run / "DONE").unlink()
    outcome = mixgan("train", *TINY, *KEPT, f"paths.run={run}")
    assert outcome.code == 2 and f"weights that are not finite: {network}." in outcome.err, outcome.err
