import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import load_file

import mixgan_cli
from mixgan_cli.models.export.safetensors import open_safetensors, write_safetensors
from mixgan_cli.runtime.outputs import LIST
from tests.conftest import MGGAN

FILES = ["generator.safetensors", "generator.onnx", "MODEL.md"]


@pytest.fixture(params=[()], ids=["hmog"])
def run(mixgan, finished, request):
    return finished(*request.param)


def python_of(card):
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


@pytest.mark.parametrize("run", [(), MGGAN], ids=["hmog", "mggan"], indirect=True)
def test_exported_files_work_as_the_card_shows(mixgan, run, monkeypatch):
    outcome = mixgan("export", f"run={run}", "to=away")
    assert outcome.code == 0 and outcome.json == {"to": "away", "files": FILES}, outcome.err
    assert outcome.err == "" and sorted(path.name for path in Path("away").glob("[!.]*")) == sorted(FILES)
    generator = mixgan_cli.load(run)
    shutil.rmtree(run)
    monkeypatch.chdir("away")
    made = {}
    for block in python_of(Path("MODEL.md").read_text()):
        exec(block, made)
    assert torch.equal(made["samples"], generator.sample(16, seed=0))
    latents = torch.from_numpy(made["inputs"]["latent"])
    experts = made["inputs"].get("expert", [None] * 16)
    alone = [generator(z.unsqueeze(0), None if k is None else int(k)) for z, k in zip(latents, experts, strict=True)]
    assert np.abs(made["images"].astype(int) - torch.cat(alone).numpy()).max() <= 1
    assert generator.hard == ("expert" in made["inputs"]) and (not generator.hard or len(set(experts)) > 1)


def test_model_card_has_the_metrics_of_the_run(mixgan, run):
    results = json.loads((run / "results.json").read_text())
    to = Path(mixgan("export", f"run={run}").json["to"])
    assert to == run / "export"
    card = (to / "MODEL.md").read_text()
    for name, value in results["metrics"].items():
        if isinstance(value, float):
            assert f"| {name} | {value:.4g} |" in card
    assert all(f'"{name}": ' in card for name in results["unavailable"])
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "mixgan"


def test_export_of_a_file_without_its_run(mixgan, run):
    shutil.copy(run / "checkpoints" / "generator.safetensors", "mine.safetensors")
    outcome = mixgan("export", "run=mine.safetensors", "onnx=false")
    assert outcome.json == {"to": "export", "files": ["generator.safetensors", "MODEL.md"]}
    assert Path("export/generator.safetensors").read_bytes() == Path("mine.safetensors").read_bytes()
    card = Path("export/MODEL.md").read_text()
    assert "Not known: this card was exported from a generator's file" in card and "onnx" not in card


def test_repeated_export_writes_the_same(mixgan, run):
    """The same command writes the same files; with onnx=false, an existing ONNX model is an error."""
    to = Path(mixgan("export", f"run={run}").json["to"])
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    assert mixgan("export", f"run={run}").code == 0
    latent = {"latent": np.zeros((1, 100), np.float32), "expert": np.zeros(1, np.int64)}
    answers = []
    for model in (before.pop("generator.onnx"), (to / "generator.onnx").read_bytes()):
        session = onnxruntime.InferenceSession(model)
        names = [argument.name for argument in session.get_inputs()]
        answers.append(session.run(["images"], {name: latent[name] for name in names})[0])
    np.testing.assert_array_equal(*answers)
    assert all((to / name).read_bytes() == content for name, content in before.items())
    outcome = mixgan("export", f"run={run}", "onnx=false")
    assert outcome.code == 2 and "contains a generator.onnx" in outcome.err


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_16_bits_take_half_of_the_space(mixgan, run, dtype):
    outcome = mixgan("export", f"run={run}", f"dtype={dtype}", "to=away")
    assert outcome.code == 0, outcome.err
    own, away = mixgan_cli.load(run), mixgan_cli.load("away/generator.safetensors")
    for one, other in zip(own.state_dict().values(), away.state_dict().values(), strict=True):
        assert torch.equal(one.to(getattr(torch, dtype)).to(one.dtype), other)
    assert (
        Path("away/generator.safetensors").stat().st_size
        < 0.6 * (run / "checkpoints/generator.safetensors").stat().st_size
    )
    assert f"| type of the weights | `{dtype}` |" in Path("away/MODEL.md").read_text()


def test_weights_too_large_for_16_bits_are_refused(mixgan, run):
    tensors = load_file(run / "checkpoints/generator.safetensors")
    with open_safetensors(run / "checkpoints/generator.safetensors") as stored:
        metadata = stored.metadata()
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = 1e5
    write_safetensors(Path("large.safetensors"), tensors, metadata)
    assert_refused(mixgan("export", "run=large.safetensors", "dtype=float16"), f"dtype=float16: {name}", "too large")
    assert mixgan("export", "run=large.safetensors", "dtype=bfloat16", "onnx=false").code == 0


def test_edited_card_and_files_of_others_are_kept(mixgan, run):
    command = ("export", f"run={run}", "onnx=false", "to=away")
    assert mixgan(*command).code == 0
    before = Path("away/generator.safetensors").read_bytes()
    Path("away/MODEL.md").write_text("mine")
    assert_refused(mixgan(*command), "to=away: MODEL.md would be replaced", "force=true")
    assert Path("away/MODEL.md").read_text() == "mine" and mixgan(*command, "force=true").code == 0
    Path("other").mkdir()
    Path("other/generator.safetensors").write_bytes(before + b"mine")
    assert_refused(mixgan(*command[:-1], "to=other"), "to=other: generator.safetensors would be replaced")
    for to, why in {"/": "not the name of a folder", "other/generator.safetensors": "Not a directory"}.items():
        assert_refused(mixgan(*command[:-1], f"to={to}"), f"to={to}", why)


def test_export_of_an_older_version_is_replaced(mixgan, run):
    """It has no list of files: the card shows that the others are mixgan's, and is kept itself if it differs."""
    command = ("export", f"run={run}", "onnx=false", "to=away")
    assert mixgan(*command).code == 0
    Path("away", LIST).unlink()
    Path("away/generator.safetensors").write_bytes(b"of a longer run")
    assert mixgan(*command).code == 0
    Path("away", LIST).unlink()
    with Path("away/MODEL.md").open("a") as card:
        card.write("mine")
    assert_refused(mixgan(*command), "to=away: MODEL.md would be replaced")


def assert_refused(outcome, *words):
    assert outcome.code == 2, outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err and outcome.out == ""


def test_invalid_exports_are_refused_before_writing(mixgan, run, monkeypatch):
    assert_refused(mixgan("export", "run=nowhere"), "there is no generator")
    assert_refused(mixgan("export", f"run={run}", "to=/proc/nowhere"), "to=/proc/nowhere: cannot be written")
    (run / "results.json").write_text('{"metrics": [], "unavailable": {}}')
    assert_refused(mixgan("export", f"run={run}"), "results.json: not what mixgan writes")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    shutil.copy(run / "checkpoints" / "generator.safetensors", "mine.safetensors")
    assert_refused(mixgan("export", "run=mine.safetensors"), "onnx=true", "pip install 'mixgan[export]'")
    assert not Path("export").exists() and not (run / "export").exists()  # nothing was written


def test_an_onnx_model_that_differs_is_not_kept(mixgan, run, monkeypatch):
    monkeypatch.setattr("mixgan_cli.models.export.onnx.MAX_LEVELS", -1)
    assert_refused(mixgan("export", f"run={run}", "to=away"), "samples of onnxruntime differ by")
    assert not Path("away").exists()


def test_a_foreign_run_cannot_run_code_or_redirect_files(mixgan, run, tmp_path):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("mixgan_cli.data.Digits", "os.system"))
    assert_refused(mixgan("export", f"run={run}"), "os.system is not a component of mixgan", "trusted=[PACKAGE]")
    (run / "config.yaml").write_text(config)
    (tmp_path / "elsewhere").mkdir()
    (run / "export").symlink_to(tmp_path / "elsewhere")
    assert_refused(mixgan("export", f"run={run}", "onnx=false"), "a link that leads out of the folder")
    assert not list((tmp_path / "elsewhere").iterdir())
