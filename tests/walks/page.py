"""The examples of docs/extending.md: their files and commands, as they stand on the page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from tests.conftest import TINY, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def write_example(title: str, folder: Path) -> list[list[str]]:
    """Write the files of a section into a folder and return the arguments of its commands.

    One component is at most one Python file and one YAML file.
    """
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert section, f"docs/extending.md has no section {title!r}"
    files = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section[1], re.DOTALL)
    kinds = [Path(name).suffix for name, _ in files]
    assert kinds.count(".py") == 1 and kinds.count(".yaml") <= 1 and len(kinds) <= 2, kinds
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return [shlex.split(command)[1:] for command in re.findall(r"```text\n(mixgan .*?)\n```", section[1], re.DOTALL)]


def run_example(title: str, mixgan: Callable[..., Outcome], folder: Path, monkeypatch, *more: str) -> Outcome:
    """Run the first command of a section on a tiny scale, with its package importable, and return what it did."""
    command, *_ = write_example(title, folder)
    monkeypatch.syspath_prepend(str(folder))
    outcome = mixgan(*command, *TINY, *more)
    assert outcome.code == 0, outcome.err
    assert Path(outcome.json["run_dir"], "DONE").is_file()
    return outcome
