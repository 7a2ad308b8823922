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
    lines = [line for block in re.findall(r"```text\n(.*?)```", section[1], re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("mixgan ")]


def run_example(title: str, mixgan: Callable[..., Outcome], folder: Path, monkeypatch, *more: str) -> Outcome:
    """Run the commands of a section on a tiny scale, with its package importable, and return what the first one did."""
    command, *others = write_example(title, folder)
    monkeypatch.syspath_prepend(str(folder))
    outcome = mixgan(*command, *TINY, *more)
    assert outcome.code == 0, outcome.err
    run = outcome.json["run_dir"]
    assert Path(run, "DONE").is_file()
    tiny = [word for word in TINY if word.startswith(("evaluation.", "hardware"))]
    for words in others:
        following = mixgan(
            *[word.replace("outputs/RUN", run) for word in words], *(tiny if "evaluate" in words else ())
        )
        assert following.code == 0, following.err
    return outcome
