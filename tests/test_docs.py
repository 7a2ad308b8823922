"""Every command that README and docs show is one the program understands; every link leads somewhere; the example of
docs/extending.md works as it stands there.
"""

import re
import shlex
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from mixgan_cli.models.build import build_networks
from mixgan_cli.parts import build
from mixgan_cli.sweeps.plan import first_of
from mixgan_cli.training.rules import check_game
from tests.conftest import TINY, composed

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(
    {
        line.partition("#")[0].strip()
        for page in PAGES
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    }
)


def first_job(words):
    """The overrides of a command's first run, be it a sweep or not."""
    return [first_of(override) for override in OverridesParser.create().parse_overrides(words)]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("mixgan ")])
def test_commands_compose(mixgan, command):
    arguments = shlex.split(command)[1:]
    if "-m" in arguments:
        arguments = [arguments[0], *first_job(argument for argument in arguments[1:] if argument != "-m")]
    outcome = mixgan(*arguments, *([] if "--help" in arguments else ["--cfg", "job"]))
    assert outcome.code == 0 and outcome.out, outcome.err


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("mixgan train ")])
def test_what_is_to_train_can_be_played(command):
    """Its networks are built, and nothing refuses them; data are not needed for that."""
    run = composed(*first_job(word for word in shlex.split(command)[2:] if "=" in word))
    shape = build(run.data).shape
    with torch.device("meta"):
        networks = build_networks(run.model, shape)
    check_game(networks, run.objective, run.training.batch, run.training.fakes)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("mixgan")])
def test_other_commands_are_targets_of_make(command):
    target = re.fullmatch(r"make ([a-z-]+)( .*)?", command)
    assert target and f"\n{target[1]}: " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_example_of_extending_works(mixgan, tmp_path, monkeypatch):
    """The files of the page written to where it says, and its command run: a gate from a user's own package."""
    page = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in blocks] == ["mine/gates.py", "my_conf/model/gate/flat.yaml"]
    for name, content in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (command,) = re.findall(r"```text\nmixgan (.*?)\n```", page)
    monkeypatch.syspath_prepend(str(tmp_path))
    outcome = mixgan(*shlex.split(command), *TINY)
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["expert_usage"] == pytest.approx([1 / 3] * 3)
    assert Path(outcome.json["run_dir"], "DONE").is_file()
