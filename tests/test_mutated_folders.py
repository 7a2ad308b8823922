"""Folders of runs and sweeps that are damaged or hostile: each command reads them, or says in one message why not.

A case changes up to three files of a copy of a sweep with two runs, and gives it to one command. Each case is limited
in time and memory, and no page has markup of the folder's author. `MUTATIONS=2000 MUTATIONS_SEED=1` tries other and
more cases (docs/testing.md).
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from mixgan_cli.reporting import page
from mixgan_cli.reporting.read_run import open_png
from tests.conftest import ALL, TINY, program
from tests.limits import limited

CASES = int(os.environ.get("MUTATIONS", 600 if ALL else 30))
SEED = int(os.environ.get("MUTATIONS_SEED", 0))
THOROUGH = ALL
BYTES = 2**31
"""Memory that a case may take in addition to what the tests have."""
MEASURED = ("hardware=cpu", "evaluation.metrics=[ms_ssim,mixture]", "evaluation.n_fake=16", "evaluation.n_real=16")
COMMANDS = (
    ("report", "{any}", "hardware=cpu", "details=2"),
    ("report", "{run}", "hardware=cpu", "redraw=true"),
    ("list", "{any}", "sort=state"),
    ("list", "{any}", "json=true"),
    ("evaluate", "run={run}", *MEASURED),
    ("evaluate", "run={run}", "checkpoint=best", "compare={other}", "evaluation=none", "hardware=cpu"),
    ("export", "run={run}", "onnx=false"),
    ("export", "run={run}", "onnx=false", "checkpoint=last"),
    ("sample", "run={run}", "n=4", "hardware=cpu"),
    ("sample", "run={run}", "n=4", "format=npz", "checkpoint=best", "hardware=cpu"),
)
MARKUP = (
    "<script>stranger()</script>", "<img src=x onerror=stranger()>", '"><svg onload="stranger()">',
    "' onclick='stranger()", "</title><script>stranger()</script>", "</script><script>stranger()</script>",
    "javascript:stranger()", "<a href='javascript:stranger()'>stranger</a>", "<!--<stranger>", "<stranger>",
    "{{ stranger }}",    "[x](javascript:stranger())",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 2, 0.5, 1e30, -1e308, 2**31, 2**63, 10**40, 10**400, float("nan"), float("inf"), "",
    " ", "x", "0", "-1", "nan", "1e400", "ä✓𝔘", "\x00\x1b[31m", "a\nb", "\ud800", "..", "../../x", "a/b", "${seed}",
    "${oc.env:HOME}", "x" * 10_000, "9" * 5000, [], {}, [None], [[]], [[[1]]], [1, "x"], ["x"] * 1000, [1.5] * 5000,
    {"a": 1}, {"": None}, {"_target_": "os.system"}, {"a": {"b": {"c": [1]}}},
)  # fmt: skip


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def changed_value(chance: random.Random, value: Any) -> Any:
    """Return a value of another type or size, or markup."""
    kind = chance.randrange(10)
    if kind < 3:
        return chance.choice(MARKUP)
    if kind == 3 and isinstance(value, str):
        return value + chance.choice(MARKUP)
    if kind == 4 and isinstance(value, (int, float)):
        return value * chance.choice((-1, 10**6, 10**12, 1e-12))
    return nested(chance.choice((5, 40, 900))) if kind == 5 else chance.choice(VALUES)


def change_tree(chance: random.Random, content: Any) -> Any:
    """Return the content with a random value or key replaced, removed or added."""
    if not content or not isinstance(content, (dict, list)) or chance.random() < 0.05:
        return changed_value(chance, content)
    place = chance.choice(list(content) if isinstance(content, dict) else range(len(content)))
    if isinstance(content[place], (dict, list)) and chance.random() < 0.75:
        content[place] = change_tree(chance, content[place])
    elif (kind := chance.randrange(8)) == 0:
        del content[place]
    elif kind == 1 and isinstance(content, dict):
        content[str(chance.choice((*MARKUP, *VALUES[16:30])))] = content.pop(place)
    else:
        content[place] = changed_value(chance, content[place])
    return content


def change_text(chance: random.Random, path: Path) -> bool:
    """Change values in a file of JSON, lines of JSON, or YAML; return whether it is one."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            path.write_text(json.dumps(change_tree(chance, json.loads(text))))
        elif path.suffix == ".yaml":
            path.write_text(yaml.safe_dump(change_tree(chance, yaml.safe_load(text)), allow_unicode=True))
        elif path.suffix == ".jsonl":
            lines = text.splitlines()
            number = chance.randrange(len(lines))
            lines[number] = json.dumps(change_tree(chance, json.loads(lines[number])))
            path.write_text("\n".join(lines) + "\n")
        else:
            return False
    except (
        ValueError,
        IndexError,
        OSError,
        RecursionError,
        yaml.YAMLError,
    ):  # damaged by a change before, or no text can hold it
        return False
    return True


def change_bytes(chance: random.Random, path: Path) -> None:
    """Flip bytes, cut the file, write zeros, insert bytes, repeat it, or make it sparse and huge."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content) + 1)
    kind = chance.randrange(7)
    if kind < 2 and content:
        for _ in range(chance.choice((1, 1, 10, 100))):
            content[chance.randrange(len(content))] = chance.randrange(256)
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        length = min(chance.choice((1, 8, 100, 10_000)), len(content) - place)
        content[place : place + length] = bytes(length)
    elif kind == 4:
        content[place:place] = chance.choice((b"\x00", b"\xff\xfe", b"\n", b"{", b"<stranger>", b"9" * 5000))
    elif kind == 5:
        content *= 2
    path.write_bytes(content)
    if kind == 6:
        with path.open("r+b") as file:
            file.truncate(2**33)


def change_kind(chance: random.Random, path: Path, root: Path) -> None:
    """Remove a file or a folder, or replace it by one of another kind or by another file."""
    others = sorted(each for each in root.rglob("*") if each != path and not each.is_symlink())
    another = chance.choice(others)
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    kind = chance.randrange(9)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    elif kind == 3:
        path.symlink_to(os.path.relpath(another, path.parent))
    elif kind == 4:
        path.symlink_to(root.parent / "secret")
    elif kind == 5:
        path.touch()
    elif kind == 6 and another.is_file() and another.stat().st_size < 2**24:
        shutil.copyfile(another, path)
    elif kind == 7:
        path.symlink_to("/dev/zero")


def mutate(chance: random.Random, root: Path) -> str:
    """Change a file or folder at random, and return which one."""
    entries = sorted(path for path in root.rglob("*") if not path.is_symlink())
    files = [path for path in entries if path.is_file() and path.stat().st_size < 2**24]
    if chance.random() < 0.2 or not files:
        path = chance.choice(entries)
        change_kind(chance, path, root)
        return f"kind of {path.relative_to(root)}"
    texts = [path for path in files if path.suffix in (".json", ".jsonl", ".yaml")]
    if texts and chance.random() < 0.7:
        path = chance.choice(texts)
        if change_text(chance, path):
            return f"values of {path.relative_to(root)}"
    path = chance.choice(files)
    change_bytes(chance, path)
    return f"bytes of {path.relative_to(root)}"


class Foreign(HTMLParser):
    """Collect what of a page a stranger has written as markup."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._script = tag == "script"
        code = [(name, value or "") for name, value in attributes if name.startswith("on") or "stranger" in name]
        code += [
            (name, value) for name, value in attributes if value and value.strip().lower().startswith("javascript:")
        ]
        if tag == "stranger" or code:
            self.found.append(f"<{tag} {code}>")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and "stranger" in data:
            self.found.append(f"<script>{data[:200]}")

    def handle_comment(self, data: str) -> None:
        if "stranger" in data:
            self.found.append(f"<!--{data[:200]}")


def foreign_markup(text: str) -> list[str]:
    """Return the markup of a stranger in a page."""
    parser = Foreign()
    parser.feed(text)
    return parser.found


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a sweep and its two runs, which has been moved and was evaluated."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXGAN_CACHE", str(folder / "cache"))
        (folder / "there").mkdir()
        mixgan = program(folder / "there", patch)
        short = [*TINY, "training.keep=2", "training.checkpoint_nimg=40", "training.evaluate_nimg=40"]
        assert mixgan("train", "-m", *short, "model.k=2,4", "sweep.name=s").code == 0
        for run in sorted(Path("outputs").glob("digits-*")):
            assert mixgan("evaluate", f"run={run}", *MEASURED, "evaluation.seed=1").code == 0
    (folder / "there" / "outputs").rename(folder / "outputs")
    return folder / "outputs"


def test_stranger_is_found_in_a_page():
    for markup in MARKUP[:6]:
        assert foreign_markup(f"<title>{markup}</title><p title='{markup}'>{markup}</p><a b={markup}>") != []
    assert foreign_markup("<p title='stranger'>stranger() onerror=stranger()</p><script>own</script>") == []


def draw_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make figures but draw them only in `make test-all`, with few pixels; do not pack pictures again for a page."""
    real, pixel = Figure.savefig, io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")

    def save(figure: Figure, path: Path, format: str, **how: Any) -> None:
        if THOROUGH:
            real(figure, path, format=format, **{**how, "dpi": 10})
        else:
            path.write_bytes(pixel.getvalue())

    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setattr(page, "_data_url", lambda png: "data:," if open_png(png) else "data:,none")


def test_mutated_folders(mixgan, sweep, tmp_path, monkeypatch):
    draw_little(monkeypatch)
    chance, wrong, ends, longest = random.Random(SEED), [], Counter(), 0.0
    secret = tmp_path / "secret"
    secret.write_text("a secret of the user")
    for number in range(CASES):
        shutil.copytree(sweep, tmp_path / "outputs", symlinks=True)
        root = Path("outputs")
        changes = [mutate(chance, tmp_path / root) for _ in range(chance.choice((1, 1, 2, 3)))]
        run, other = chance.sample(sorted(root.glob("digits-*")) * 2, 2)
        folder = chance.choice((run, root / "sweeps" / "s", root))
        words = [word.format(run=run, other=other, any=folder) for word in chance.choice(COMMANDS)]
        what, began = f"{number}: {changes}\n{words}", time.process_time()
        try:
            with limited(BYTES):
                outcome = mixgan(*words)
        except BaseException as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}"[:2000])
        else:
            ends[f"{words[0]} {outcome.code}"] += 1
            if "Traceback" in outcome.err or outcome.code not in (0, 2):
                wrong.append(f"{what}: exit code {outcome.code}\n{outcome.err[-2500:]}")
            for written in tmp_path.glob("outputs/**/index.html"):
                if not written.is_file():
                    continue
                text = written.read_text()
                if found := foreign_markup(text):
                    wrong.append(f"{what}: {found}")
                if secret.read_text() in text or secret.read_text() != "a secret of the user":
                    wrong.append(f"{what}: the secret")
        longest = max(longest, time.process_time() - began)
        shutil.rmtree(tmp_path / "outputs")
    print(f"{CASES} cases, {dict(sorted(ends.items()))}, {len(wrong)} wrong, at most {longest:.1f} s")
    assert not wrong, f"MUTATIONS_SEED={SEED}: {len(wrong)} wrong\n" + "\n\n".join(wrong[:40])
