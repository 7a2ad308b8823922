"""Files from others: a run's folder or a generator that someone made with ill intent runs nothing and writes nowhere.

Each test that hands over code looks for its mark afterwards. Archives are tests/data/test_hostile_archives.py.
"""

import json
import os
import pickle
import shutil
import signal
import sys
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

import mixgan_cli
from mixgan_cli.config.components import _target, trust
from mixgan_cli.config.identity import run_name
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run, conf_dir
from mixgan_cli.errors import ConfigError, Unavailable
from mixgan_cli.evaluation.inception import require_tensors
from mixgan_cli.reporting.read_run import MAX_CURVES, read_curves
from mixgan_cli.runtime.reading import read_yaml
from tests.conftest import ALL, TINY, composed

SHORT = ("evaluation=none", "hardware=cpu")
MARK = Path("harm")
"""In the current folder, which is temporary: there if code from a file ran."""


@pytest.fixture(autouse=True)
def _somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run."""
    return Path(shutil.copytree(finished_run(), tmp_path / "theirs"))


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A package that can be imported, and leaves a mark when it is."""
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "__init__.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / MARK)!r}).touch()\n"
        "from mixgan_cli.models.gates import TreeGate\nclass Gate(TreeGate): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "stranger.Gate"
    sys.modules.pop("stranger", None)  # or the next test would not see that it is imported
    _target.cache_clear()


def refused(outcome, *told):
    """Whether a call ended in one readable message, with these words, and without running anything."""
    assert outcome.code == 2, outcome.err
    assert all(word in outcome.err for word in told), outcome.err
    assert "Traceback" not in outcome.err and outcome.out == "" and len(outcome.err) < 2000
    assert not MARK.exists()


def configured(run, change):
    """Change a run's stored configuration by a function of it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def generator_with(run, path="generator.safetensors", **metadata):
    """Write a run's generator anew, with other metadata."""
    with safe_open(run / "checkpoints" / "generator.safetensors", framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
        metadata = {**stored.metadata(), **metadata}
    save_file(tensors, path, metadata)
    return path


# What a file may name

FOREIGN = [
    "os.system", "builtins.eval", "torch.nn.Linear", "subprocess.Popen",
    "mixgan_cli.cli.os.system", "mixgan_cli.data.datasets.arrays.os.system",  # reached through a module that imports it
    "mixgan_cli.models.gates.nn.Linear", "mixgan_cli.models.gates.Tensor", "mixgan_cli.data.images.Archive",
    "mixgan_cli.runtime.io.write_text", "mixgan_cli.runs.RunFolder", "mixgan_cli.cli.main",  # mixgan's, but no part
    "mixgan_cli.api.load", "mixgan_cli.models.gates.TreeGate.forward",  # no class
    "mixgan_cli.models.gates", "mixgan_cli.models.${oc.env:HOME}", "mixgan_cli.models.gates.BushGate",
    "mixgan_cli.models..gates.TreeGate", "mixgan_cli_models.gates.TreeGate", ".", "", "TreeGate", None, 5, ["os.open"],
]  # fmt: skip


@pytest.mark.parametrize("target", FOREIGN, ids=str)
def test_only_classes_of_mixgans_parts_are_trusted(target):
    with pytest.raises(ConfigError, match="is not a component of mixgan"):
        trust({"model": {"list": [{"deep": {"_target_": target}}]}})


def test_every_part_that_conf_names_is_trusted():
    trust(composed().model_dump(mode="json"))
    named = [yaml.safe_load(path.read_text()) for path in conf_dir().rglob("*.yaml") if "_target_" in path.read_text()]
    assert len(named) > 30
    trust(named)


def test_package_is_imported_only_if_it_is_trusted(stranger):
    node = {"_target_": stranger}
    for others in ((), ("strange",), ("stranger.gates",), ("strangers",)):
        with pytest.raises(ConfigError, match="not a component of mixgan"):
            trust(node, others)
        assert not MARK.exists()
    trust(node, ["stranger"])
    assert MARK.exists()
    with pytest.raises(ConfigError, match="not a component of mixgan"):
        trust({"_target_": "stranger.TreeGate"}, ["stranger"])  # it only imports that


@pytest.mark.parametrize(
    "target", ["os.system", "mixgan_cli.cli.os.system", "mixgan_cli.runtime.io.write_text", "stranger"]
)
def test_target_that_names_other_code_is_refused(mixgan, run, stranger, target):
    gate = {"_target_": stranger if target == "stranger" else target, "command": f"touch {MARK}", "path": str(MARK)}
    model = json.loads(safe_open(run / "checkpoints" / "generator.safetensors", framework="pt").metadata()["model"])
    hostile = generator_with(run, "hostile.safetensors", model=json.dumps({**model, "gate": gate}))
    refused(mixgan("sample", f"run={hostile}", "hardware=cpu"), "is not a component of mixgan", "trusted=[PACKAGE]")
    with pytest.raises(ConfigError, match="is not a component of mixgan"):
        mixgan_cli.load(hostile)
    for change in (
        lambda config: config["model"].update(gate=gate),
        lambda config: config["logger"].update(mine=gate),
        lambda config: config.update(data=gate),
    ):
        shutil.copy(run / "config.yaml", "kept.yaml")
        configured(run, change)
        refused(mixgan("evaluate", f"run={run}", *SHORT), "is not a component of mixgan", "trusted=[PACKAGE]")
        shutil.copy("kept.yaml", run / "config.yaml")
    assert mixgan("evaluate", f"run={run}", *SHORT).code == 0  # as it was, it is fine


def test_trusted_package_is_used(mixgan, run, stranger):
    configured(run, lambda config: config["model"]["gate"].update(_target_=stranger))
    assert mixgan("evaluate", f"run={run}", *SHORT, "trusted=[stranger]").code == 0
    assert MARK.exists()


@pytest.mark.parametrize("data", ["mixgan_cli.data.packed.Packed", "mixgan_cli.models.NoGate"])
def test_component_of_another_group_is_refused(mixgan, run, data):
    part = {"_target_": data, **({"k": 1} if "NoGate" in data else {"stored_MCHW": None, "stored_labels_M": None,
            "preprocessing": "", "rows_N": None})}  # fmt: skip
    configured(run, lambda config: config.update(data=part))
    refused(mixgan("evaluate", f"run={run}", *SHORT))


# What a configuration may be

BOMBS = {
    "aliases": "a0: &a0 [1]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)),  # 9 to the power of 39
    "nested": "a: " + "[" * 5000,
    "long": "a: " + "x" * 10**6,
    "python": f"a: !!python/object/apply:os.system ['touch {MARK}']\n",
    "digits": "seed: " + "9" * 10_000,
    "list": "[1, 2]",
    "nothing": "",
    "binary": "\x00\x01",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_hostile_configurations_are_refused(mixgan, run, bomb):
    (run / "config.yaml").write_text(BOMBS[bomb])
    refused(mixgan("evaluate", f"run={run}", *SHORT), "not a configuration that mixgan wrote")
    (run / "DONE").unlink()
    refused(mixgan("train", *TINY, f"paths.run={run}"), "not a configuration that mixgan wrote")


def test_deep_nesting_is_refused(mixgan, run):
    deep = "{'a': " * 60 + "1" + "}" * 60
    (run / "config.yaml").write_text(f"a: {deep}")
    refused(mixgan("evaluate", f"run={run}", *SHORT), "nested more than 32 levels deep")
    deep = '{"a": ' * 60 + "1" + "}" * 60
    refused(mixgan("sample", f"run={generator_with(run, model=deep)}", "hardware=cpu"), "nested more than 32")


def test_stored_interpolations_are_not_resolved(mixgan, run, monkeypatch):
    """The environment's secrets stay where they are: an interpolation in a file is so many letters."""
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    configured(run, lambda config: config["evaluation"].update(weights="${oc.env:WANDB_API_KEY}"))
    configured(run, lambda config: config.update(seed="${oc.env:WANDB_API_KEY}"))
    outcome = mixgan("evaluate", f"run={run}", *SHORT)
    refused(outcome, "seed='${oc.env:WANDB_API_KEY}': Input should be a valid integer")
    assert "0123456789abcdef" not in outcome.err
    configured(run, lambda config: config.update(seed=0))
    assert parse(read_yaml(run / "config.yaml"), Run).evaluation.weights == "${oc.env:WANDB_API_KEY}"


@pytest.mark.parametrize("results", [None, "", "{}", "[1]", "{" * 5000, '{"metrics": 1'], ids=str)
def test_damaged_results_are_refused(mixgan, run, results):
    (run / "results.json").unlink()
    if results is not None:
        (run / "results.json").write_text(results)
    problem = "missing" if results is None else "not what mixgan writes, or damaged"
    refused(mixgan("train", *TINY, f"paths.run={run}"), f"results.json: {problem}", "Remove DONE")


# What kind of files a run may have


def fifo(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path):
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def gigabytes(path):
    """A file that takes no space on the disk."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(2**33)


READERS = {
    "report": ["report", "{run}", "hardware=cpu"],
    "list": ["list", "{run}"],
    "compare": ["evaluate", "images=images.npy", "reference=images.npy", "compare={run}", *SHORT[1:]],
    "sample": ["sample", "run={run}", "n=4", "hardware=cpu"],
    "evaluate": ["evaluate", "run={run}", *SHORT],
    "continue": ["train", "continue={run}", "training.nimg=140", "hardware.threads=1"],
    "resume": ["train", *TINY, "paths.run={run}"],
}
"""Commands that read a run of someone else."""
FILES = {
    "results.json": ("report", "list", "compare"), "metrics.jsonl": ("report", "continue", "resume"),
    "evaluations/x.json": ("report", "compare"), "environment.json": ("report",), "config.yaml": ("sample", "evaluate"),
    "checkpoints/last.pt": ("evaluate", "continue", "resume"), "checkpoints/best.pt": ("continue",),
    "checkpoints/generator.safetensors": ("sample",), "samples/000000120.png": ("report", "continue"),
    ".lock": ("continue", "resume"),
}  # fmt: skip


KINDS = [fifo, device, gigabytes]
OTHER_KINDS = [(file, KINDS[n % 3]) for n, file in enumerate(FILES)]
"""One kind for each file; `make test-all` tries all of them."""


@pytest.mark.parametrize(
    ("file", "kind"),
    list(product(FILES, KINDS)) if ALL else OTHER_KINDS,
    ids=lambda each: getattr(each, "__name__", each),
)
def test_files_of_other_kinds_are_not_read(mixgan, run, kind, file):
    """A FIFO would be waited for, a device or gigabytes would fill the memory or, copied, the disk."""
    np.save("images.npy", np.zeros((16, 8, 8), np.uint8))
    (run / file).parent.mkdir(exist_ok=True)
    kind(run / file)
    signal.alarm(300)  # ends the tests, if something waits
    try:
        for name in FILES[file]:
            if name == "resume":
                (run / "DONE").unlink(missing_ok=True)
            outcome = mixgan(*(word.replace("{run}", str(run)) for word in READERS[name]))
            assert outcome.code in (0, 1, 2) and "Traceback" not in outcome.err, outcome.err
    finally:
        signal.alarm(0)
    copies = [path for path in Path().rglob("*") if path.is_file() and not path.is_relative_to(run.name)]
    assert all(path.stat().st_size < 2**24 for path in copies)


def test_run_that_cannot_be_read_does_not_hide_the_others(mixgan, run):
    shutil.copytree(run, "runs/good")
    shutil.copytree(run, "runs/bad")
    Path("runs/bad/DONE").unlink()
    gigabytes(Path("runs/bad/FAILED"))
    fifo(Path("runs/good/samples/000000999.png"))
    outcome = mixgan("report", "runs", "hardware=cpu")
    assert outcome.code == 0 and outcome.json["runs"] == 1, outcome.err


# What a checkpoint may hold


class Payload:
    """Pickled, a command."""

    def __reduce__(self):
        return os.system, (f"touch {MARK.resolve()}",)


def test_payload_runs_code_when_unpickled():
    """Or the tests below prove nothing."""
    pickle.loads(pickle.dumps(Payload()))
    assert MARK.exists()


def bomb(path):
    """Zeros that torch would unpack: 64 MiB of them in 64 KiB."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as records:
        records.writestr(f"{records.namelist()[0].partition('/')[0]}/data/bomb", bytes(2**26))


def expanded(path, state):
    """An optimiser with a state of 8 GiB that is four bytes of the file."""
    state["optimizers"]["generator"]["state"][0]["exp_avg"] = torch.zeros(1).expand(2**31)
    torch.save(state, path)


def sparse(path, state):
    indices, values = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1)
    state["optimizers"]["generator"]["state"][0]["exp_avg"] = torch.sparse_coo_tensor(indices, values, (2**33,))
    torch.save(state, path)


def doubling(path, state):
    """A configuration with 2 to the power of 60 keys."""
    config = {}
    for _ in range(60):
        config = {"a": config, "b": config}
    torch.save({**state, "config": config}, path)


CHECKPOINTS = {
    "expanded": expanded,
    "sparse": sparse,
    "doubling": doubling,
    "payload": lambda path, state: torch.save({**state, "config": Payload()}, path),
    "pickle": lambda path, state: path.write_bytes(pickle.dumps(Payload())),
    "legacy": lambda path, state: torch.save(Payload(), path, _use_new_zipfile_serialization=False),
    "bomb": lambda path, state: bomb(path),
    "list": lambda path, state: torch.save([1, 2], path),
    "keys": lambda path, state: torch.save({"config": {}}, path),
    "tensors": lambda path, state: torch.save({**state, "ema": {"a": torch.zeros(3)}, "generator": 5}, path),
    "progress": lambda path, state: torch.save({**state, "progress": [1]}, path),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_hostile_checkpoints(mixgan, run, kind):
    path = run / "checkpoints" / "last.pt"
    CHECKPOINTS[kind](path, torch.load(path, weights_only=True))
    refused(mixgan("evaluate", f"run={run}", *SHORT), "last.pt")
    (run / "DONE").unlink()  # so that it is trained on from there
    refused(mixgan("train", *TINY, f"paths.run={run}"), "last.pt")


@pytest.mark.parametrize(
    ("metadata", "told"),
    [({"shape": "5"}, "damaged"), ({"shape": "[1, 1000000, 1000000]"}, "damaged"), ({"shape": "[-1]"}, "damaged"),
     ({"model": "[]"}, "valid dictionary"), ({"model": '{"k": ' * 5000}, "damaged"), ({"model": "9" * 10**6}, "longer"),
     ({"model": "null"}, "valid dictionary"), ({"shape": "[1, 16, 16]"}, "do not belong together")],
)  # fmt: skip
def test_hostile_headers_are_refused(mixgan, run, metadata, told):
    refused(mixgan("sample", f"run={generator_with(run, **metadata)}", "hardware=cpu"), told)


def test_sizes_in_a_header_allocate_no_memory(mixgan, run):
    """The weights are compared before there is memory for them."""
    model = json.loads(safe_open(run / "checkpoints" / "generator.safetensors", framework="pt").metadata()["model"])
    for change in ({"latent": {"size": 2**16, "distribution": "normal"}}, {"k": 2**12}):
        hostile = generator_with(run, model=json.dumps({**model, **change}))
        refused(mixgan("sample", f"run={hostile}", "hardware=cpu"), "do not belong together")


def test_small_file_builds_few_layers(mixgan, run):
    """It asks for 4,096 experts of 2,000 layers: minutes and gigabytes, even without memory for the weights."""
    points = composed("data=ring", "model=megan", "model.k=4096").model_dump(mode="json")
    points["model"]["backbone"] |= {"generator_widths": [1] * 2000}
    generator = run / "checkpoints" / "generator.safetensors"
    generator_with(run, generator, model=json.dumps(points["model"]), shape="[2]")
    configured(run, lambda config: config.update(model=points["model"], data=points["data"]))
    refused(mixgan("sample", f"run={run}", "hardware=cpu"), "tensors, many more than the file")
    generator.unlink()
    refused(mixgan("sample", f"run={run}", "hardware=cpu"), "tensors, many more than the file")
    refused(mixgan("train", f"continue={run}", "training.nimg=140"), "tensors, many more than the file")


def test_long_lists_in_a_log_give_few_curves(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(json.dumps({"nimg": n, "a": [0] * 5000, "b": n}) + "\n" for n in range(5)))
    assert len(read_curves(log)) == MAX_CURVES


def test_weights_for_the_evaluation_are_tensors():
    torch.save({"a": torch.zeros(2)}, "good.pth")
    assert require_tensors(Path("good.pth")) == Path("good.pth")
    torch.save(Payload(), "bad.pth")
    with pytest.raises(Unavailable) as caught:
        require_tensors(Path("bad.pth"))
    assert "as tensors and nothing else" in str(caught.value) and not MARK.exists()


def test_harmful_weights_leave_the_metric_out(mixgan, run):
    torch.save(Payload(), "bad.pth")
    settings = ("evaluation.weights=bad.pth", "evaluation.metrics=[fid]", "evaluation.n_fake=4", "evaluation.n_real=4")
    outcome = mixgan("evaluate", f"run={run}", *settings, "hardware=cpu")
    assert "as tensors and nothing else" in outcome.json["unavailable"]["fid"] and not MARK.exists()


# Where is written


@pytest.mark.parametrize(
    "name", ["../../outside", "/tmp/outside", "a/b", "..", ".hidden", "", "a b", "x" * 65, "a\nb", "ä/"]
)
def test_model_name_with_a_path_is_refused(mixgan, name, tmp_path):
    model = composed().model.model_dump()
    with pytest.raises(ConfigError, match="must be the start of a folder's name"):
        parse({**model, "name": name}, type(composed().model))
    if name.isascii() and name.isprintable():
        refused(mixgan("train", *TINY, f'model.name="{name}"'), "must be the start of a folder's name")
    assert not list(tmp_path.rglob("*outside*")) and not Path("outputs").exists()


def test_run_name_contains_the_model_name_and_no_slash():
    assert run_name(composed("model.name=my_model-2.0")).startswith("digits-my_model-2.0-")
    assert "/" not in run_name(composed())


@pytest.fixture
def elsewhere(tmp_path):
    """A folder and a file of the user's own."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    return folder


def untouched(folder):
    return [path.name for path in folder.iterdir()] == ["precious"] and (folder / "precious").read_text() == "mine"


@pytest.mark.parametrize("form", ["grid", "png", "npz"])
def test_samples_do_not_follow_a_link(mixgan, run, elsewhere, form):
    shutil.rmtree(run / "samples")
    (run / "samples").symlink_to(elsewhere)
    settings = (f"run={run}", f"format={form}", "n=4", "hardware=cpu")
    refused(mixgan("sample", *settings), "a link that leads out of the folder")
    assert untouched(elsewhere)
    assert mixgan("sample", *settings, "to=here").code == 0  # to where the user says


@pytest.mark.parametrize(
    "entry", [".lock", "metrics.jsonl", "samples", "checkpoints", "figures", "wandb", "results.json"]
)
def test_training_on_does_not_follow_a_link(mixgan, run, elsewhere, entry):
    (run / "DONE").unlink()
    path = run / entry
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(elsewhere if path.suffix == "" and entry != ".lock" else elsewhere / "precious")
    refused(mixgan("train", *TINY, f"paths.run={run}"), entry, "a link that leads out of the folder")
    assert untouched(elsewhere)


def test_run_can_be_a_link_and_contain_links(mixgan, run):
    Path("linked").symlink_to(run)
    (run / "figures").symlink_to(run / "samples")
    (run / "DONE").unlink()
    assert mixgan("train", *TINY, "paths.run=linked").code == 0


def test_a_temporary_file_does_not_follow_a_link(elsewhere, tmp_path):
    from mixgan_cli.runtime.io import write_text

    (tmp_path / f".x.{os.getpid()}.tmp").symlink_to(elsewhere / "precious")
    write_text(tmp_path / "x", "new")
    assert untouched(elsewhere) and (tmp_path / "x").read_text() == "new"


def test_evaluating_a_strangers_run_adds_the_evaluation_only(mixgan, run, tmp_path):
    configured(run, lambda config: config["paths"].update(run=str(tmp_path / "outside"), outputs="/proc/nowhere"))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert mixgan("evaluate", f"run={run}", *SHORT, "to=answer.json").code == 0
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert {path: after[path] for path in before} == before
    assert {path.parent for path in after.keys() - before.keys() if path.is_file()} == {run / "evaluations"}
    assert not (tmp_path / "outside").exists()
    shutil.rmtree(run / "evaluations")
    (run / "evaluations").symlink_to(tmp_path / "outside")  # a link out of the folder is not followed
    (tmp_path / "outside").mkdir()
    assert mixgan("evaluate", f"run={run}", *SHORT, "to=answer.json").code == 0
    assert not list((tmp_path / "outside").iterdir())
    (tmp_path / "outside").rmdir()
    assert {path.name for path in tmp_path.iterdir()} <= {"theirs", "answer.json", "own-cache"}


@pytest.mark.integ
def test_report_of_a_foreign_run_stays_in_its_folder(mixgan, finished, tmp_path):
    """Metrics named like paths, links out of the folder, texts that are HTML, figures that are none."""
    runs = [finished(), finished("model.k=4")]
    secret, elsewhere = tmp_path / "secret", tmp_path / "elsewhere"
    secret.write_text("WANDB_API_KEY=abc")
    elsewhere.mkdir()
    for number, run in enumerate(runs):
        results = json.loads((run / "results.json").read_text())
        names = (f"{elsewhere}/evil", "../../evil", "..", "<b>x</b>", "x" * 300, "fid")
        results["metrics"] = dict.fromkeys(names, float(number)) | {"huge": 10**400, "nan": float("nan")}
        results["unavailable"] = {"kid": "<script>alert(1)</script>"}
        (run / "results.json").write_text(json.dumps(results))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    outcome = mixgan("report", *map(str, runs), "to=page")
    assert outcome.code == 0, outcome.err
    page = Path("page").resolve()
    assert all(path.is_relative_to(page) for path in set(tmp_path.rglob("*")) - before if path.is_file())
    assert (page / "index.html").read_text().count("<script") == 1  # the page's own
    assert "fid.png" in {path.name for path in page.rglob("*")}

    (runs[0] / "DONE").unlink()
    (runs[0] / "FAILED").symlink_to(secret)
    outcome = mixgan("report", str(runs[0]))
    assert outcome.code == 2 and "a link that leads out of the folder" in outcome.err
    (runs[0] / "FAILED").unlink()
    (runs[0] / "report").mkdir()
    (runs[0] / "report" / "figures").symlink_to(elsewhere)
    outcome = mixgan("report", str(runs[0]))
    assert outcome.code == 2 and not any(elsewhere.iterdir())


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"metrics": []}', '{"metrics": {"fid": 1}, "run": {"nimg": "x", "seconds": "y"}, "protocol": 3}',
     '{"metrics": {"expert_usage": null, "expert_class": [["a"]], "nmi_by_level": 0.5}}'],
)  # fmt: skip
def test_report_of_odd_results_gives_a_page_or_a_message(mixgan, run, content):
    (run / "results.json").write_text(content)
    (run / "samples" / "9-of-mine.png").write_bytes(b"no picture")
    (run / "environment.json").write_text("[1]")
    outcome = mixgan("report", str(run))
    assert outcome.code in (0, 2) and "Traceback" not in outcome.err
    (run / "environment.json").unlink()
    outcome = mixgan("report", str(run))
    assert outcome.code in (0, 2) and "Traceback" not in outcome.err
