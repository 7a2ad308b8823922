import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mixgan_cli import __version__, cli
from mixgan_cli.config.compose import groups
from tests.conftest import TINY, composition


def test_no_arguments_print_the_overview(mixgan):
    outcome = mixgan()
    assert outcome.code == 0
    for name in cli.COMMANDS:
        assert f"  {name} " in outcome.out


def test_a_command_needs_no_arguments_to_be_composed(mixgan):
    outcome = mixgan("report")
    assert outcome.code == 2 and "paths" in outcome.err and "Traceback" not in outcome.err


def test_version(mixgan):
    assert mixgan("--version").out.strip() == f"mixgan {__version__}"


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_spin_briefly_unless_it_is_set(mixgan, monkeypatch, given, spins):
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
        if variable in given:
            monkeypatch.setenv(variable, given[variable])
    assert mixgan("--version").code == 0 and os.environ.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("mixgan ", list(cli.COMMANDS)),
        ("mixgan ev", ["evaluate"]),
        ("mixgan train mod", ["model", "model."]),
        ("mixgan train model=hm", ["model=hmog"]),
        ("mixgan train model=mggan data=cifar10 training.n", ["training.nimg="]),
        ("mixgan sample che", ["checkpoint="]),
        ("mixgan nonsense che", []),
    ],
)
def test_shells_complete_commands_choices_and_keys(mixgan, monkeypatch, line, completed):
    for shell in ("bash", "zsh", "fish"):
        monkeypatch.setenv("COMP_LINE", line)
        outcome = mixgan("-sc", f"query={shell}")
        assert outcome.code == 0 and outcome.out.split() == completed and outcome.err == ""


def test_completion_is_installed_for_mixgan(mixgan):
    assert mixgan("-sc", "install=bash").out.endswith("-F hydra_bash_completion mixgan\n")
    assert "complete -c mixgan -x -a '(hydra_fish_completion)'" in mixgan("-sc", "install=fish").out
    outcome = mixgan("-sc", "install=tcsh")
    assert outcome.code == 2 and "install=bash, install=zsh or install=fish" in outcome.err


def lines_that_fit(text):
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    return lines


USED = {"sample": {"hardware"}, "evaluate": {"data", "evaluation", "hardware"}, "fetch": {"data"}, "export": set(),
        "list": set(), "report": {"hardware"}}  # fmt: skip
"""The groups of a command; train and bench have all."""


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_fits_two_screens(mixgan, name):
    outcome = mixgan(name, "--help")
    lines = lines_that_fit(outcome.out)
    assert outcome.code == 0 and len(lines) <= 100
    for group, choices in groups().items():
        listed = name not in USED or group.partition("/")[0] in USED[name]
        assert any(line.startswith(f"  {group} ") for line in lines) == listed
        assert not listed or set(choices) <= set(re.split(r"[\s,]+", outcome.out))
    for key in composition(of=cli.COMMANDS[name].config):
        assert key in groups() or re.search(rf"^{key}:", outcome.out, re.MULTILINE), key


@pytest.mark.parametrize("words", [("--help", "model"), ("--help=model",), ("model=mog", "-h", "model")])
def test_help_on_a_group_includes_the_groups_below_it(mixgan, words):
    outcome = mixgan("train", *words)
    lines = lines_that_fit(outcome.out)
    assert outcome.code == 0 and lines[0] == "model=" and "model/gate=" in lines and "data=" not in lines
    assert any(line.startswith("  mog           MoG: a flat mixture") for line in lines)


def test_help_all_describes_every_group(mixgan):
    lines = lines_that_fit(mixgan("train", "--help", "all").out)
    assert [line[:-1] for line in lines if line.endswith("=")] == sorted(groups())
    described = {line.split()[0] for line in lines if line[:2] == "  " and line[2] != " "}
    assert described == {choice for choices in groups().values() for choice in choices}


def test_help_on_unknown_group_is_refused(mixgan):
    outcome = mixgan("evaluate", "--help", "dta")
    assert outcome.code == 2 and outcome.out == ""
    assert (
        "--help dta: there is no such group. Did you mean 'data'? Known: data, evaluation, hardware, all" in outcome.err
    )


def test_unknown_command_is_refused(mixgan):
    outcome = mixgan("trian")
    assert outcome.code == 2 and "Did you mean 'train'" in outcome.err


def test_cfg_job_prints_the_configuration(mixgan, tmp_path):
    outcome = mixgan("train", "--cfg", "job", "model.k=16")
    assert outcome.code == 0 and "k: 16" in outcome.out and "nimg:" in outcome.out
    assert not list(tmp_path.rglob("*"))


def test_new_processes_do_not_import_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("colorsys.py").write_text("print('imported')")
    command = [sys.executable, "-c", "import colorsys"]

    def printed():
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with cli.safe_path():
        assert printed() == ("imported\n" if sys.version_info < (3, 11) else "")
    monkeypatch.syspath_prepend(tmp_path)
    with cli.safe_path():  # as with python -m mixgan_cli, whose own modules may come from there
        assert printed() == "imported\n"


def test_out_of_memory_is_one_message(mixgan, monkeypatch):
    """For real: a tensor of 2^60 bytes; and what CUDA says."""
    from mixgan_cli.commands import sample

    monkeypatch.setattr(sample, "run", lambda config: torch.empty(2**60, dtype=torch.uint8))
    outcome = mixgan("sample", "run=x")
    assert outcome.code == 1 and "mixgan sample: not enough memory (" in outcome.err and "Traceback" not in outcome.err
    monkeypatch.setattr(sample, "run", lambda config: exec("raise torch.OutOfMemoryError('CUDA out of memory. Tried')"))
    outcome = mixgan("sample", "run=x")
    assert outcome.code == 1 and "not enough memory (CUDA out of memory" in outcome.err
    monkeypatch.setattr(sample, "run", lambda config: exec("raise MemoryError"))
    assert "not enough memory (MemoryError)" in mixgan("sample", "run=x").err


def test_too_large_networks_are_refused_before_they_are_built(mixgan, monkeypatch):
    monkeypatch.setattr("mixgan_cli.models.networks.total_memory", lambda: 2**20)
    outcome = mixgan("train", "model.backbone.channels=64")
    assert outcome.code == 2 and "model: its weights take 0 GiB, and this machine has 0" in outcome.err


@pytest.mark.parametrize("path", ["z" * 300, "/".join(["z" * 200] * 30)], ids=["name", "path"])
@pytest.mark.parametrize(
    "words",
    [["report", "PATH"], ["list", "PATH"], ["sample", "run=PATH"], ["export", "run=PATH", "to=there"],
     ["evaluate", "run=PATH"], ["evaluate", "images=PATH", "data=digits"], ["train", *TINY, "paths.run=PATH"],
     ["train", *TINY, "data=folder", "data.root=PATH"], ["train", *TINY, "start_from=PATH"],
     ["train", "continue=PATH", "training.nimg=200"]],
    ids=lambda words: f"{words[0]} {words[-1]}",
)  # fmt: skip
def test_path_that_is_too_long_is_one_message(mixgan, words, path):
    outcome = mixgan(*(word.replace("PATH", path) for word in words))
    assert outcome.code == 2 and "Traceback" not in outcome.err and outcome.err.startswith(f"mixgan {words[0]}: ")
    assert "zzz" in outcome.err and len(outcome.err) < 8000


def test_link_that_is_too_long_is_one_message(mixgan, finished):
    run = finished()
    (run / "figures").symlink_to("x" * 300)
    outcome = mixgan("report", str(run))
    assert outcome.code == 2 and "File name too long" in outcome.err and "Traceback" not in outcome.err


def test_bug_shows_its_traceback(mixgan, monkeypatch):
    from mixgan_cli.commands import sample

    monkeypatch.setattr(sample, "run", lambda config: 1 / 0)
    outcome = mixgan("sample", "run=x")
    assert outcome.code == 1 and "ZeroDivisionError" in outcome.err


MISTAKES = {
    ("train", "training.batch=0"): "training.batch=0: Input should be greater than 0",
    ("train", "model.k=6"): "model.k=6: a complete binary tree needs a power of two leaves",
    ("train", "model=gan", "model.k=2"): "model.k=2: without a gate there is one expert",
    ("train", "+lr=1"): "lr: there is no such key. Did you mean 'objective.optimizer.generator.lr'",
    ("bench", "training.nimg=1"): "training.nimg=1 is less than one batch",
    ("evaluate", "run=x", "evaluation.n_fake=0"): "evaluation.n_fake=0",
    ("fetch",): "give data=NAME, or weights",
    ("sample", "run=x", "n=0"): "n=0",
    ("report", "paths=[x]", "details=-1"): "details=-1",
    ("export",): "run: missing",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_cheap_mistake_is_found_before_torch_is_imported(mixgan, monkeypatch, words):
    def refuse(name):
        raise AssertionError(f"{name} is imported")

    monkeypatch.setattr("mixgan_cli.config.components._target", refuse)
    monkeypatch.setattr(cli, "importlib", SimpleNamespace(import_module=refuse))
    outcome = mixgan(*words)
    assert outcome.code == 2 and MISTAKES[words] in outcome.err and "is imported" not in outcome.err


def test_command_line_does_not_need_torch():
    """An import of the command line and of all that checks values, in a process without torch."""
    without = "import sys; sys.modules['torch'] = None; from mixgan_cli.cli import main; sys.exit(main(sys.argv[1:]))"
    outcome = subprocess.run(
        [sys.executable, "-c", without, "train", "model.k=6"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 2 and "model.k=6: a complete binary tree" in outcome.stderr


ODD = "caf\udce9 a=b [1]"
"""A folder's name: bytes that are not UTF-8, and characters of Hydra's grammar."""


@pytest.mark.parametrize(
    "words",
    [("list", "."), ("sample", "run=run", "n=2", "to=new"), ("export", "run=run", "to=new"),
     ("report", "run", "to=new"),
     ("evaluate", "run=run", "evaluation.metrics=[mixture]", "to=new.json"),
     ("train", *TINY, "evaluation=none", "paths.outputs=new")],
    ids=lambda words: words[0],
)  # fmt: skip
def test_command_works_in_a_folder_of_any_name(mixgan, finished, words):
    """Twice: the second time, files of the first are there."""
    folder = Path(ODD)
    folder.mkdir()
    shutil.copytree(finished(), folder / "run")
    new = [re.sub(r"(^|=)(run|new|new.json|\.)$", rf"\1{ODD}/\2", word) for word in words]
    more = [] if words[0] in ("list", "export", "train") else ["hardware=cpu"]
    for _ in range(2):
        outcome = mixgan(*new, *more)
        assert outcome.code == 0, outcome.err
    assert words[0] == "list" or len(list(folder.iterdir())) == 2
    assert [path.name for path in Path().iterdir() if path.name not in (ODD, "outputs")] == []


@pytest.mark.parametrize(
    "words",
    [("list", "loop"), ("list", "loop/x"), ("report", "loop"), ("evaluate", "run=loop"), ("sample", "run=loop"),
     ("export", "run=loop"), ("evaluate", "images=loop", "data=digits"), ("train", "continue=loop"),
     ("train", "paths.run=loop"), ("train", "paths.outputs=loop"), ("train", "-m", "hydra.sweep.dir=loop", "seed=0,1"),
     ("train", "data=folder", "data.root=loop"), ("train", "data=mnist", "data.root=loop")],
    ids=" ".join,
)  # fmt: skip
def test_link_to_itself_is_refused_in_one_message(mixgan, words):
    Path("loop").symlink_to("loop")
    outcome = mixgan(*words)
    assert outcome.code in (1, 2) and "loop" in outcome.err and "Traceback" not in outcome.err, outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [(("export", "run=./nowhere"), "run=nowhere: there is no"), (("export", "++run=1e400"), "run=inf: there is no"),
     (("list", "nowhere"), "paths=nowhere: there is no"), (("report", "nowhere"), "paths=nowhere: there is no"),
     (("train", "continue=${hydra:runtime.cwd}"), "continue=/"), (("evaluate", "run=no"), "run=no: not a run")],
    ids=lambda value: value[0],
)  # fmt: skip
def test_error_of_a_path_names_its_key(mixgan, words, message):
    outcome = mixgan(*words)
    assert outcome.code == 2 and f"mixgan {words[0]}: {message}" in outcome.err
