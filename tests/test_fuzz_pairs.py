"""Every key of every command, two at a time, with hostile values: the program goes on, or names a key in one message.

Each key of a command comes in turn, with another one at random. A command stops where its work would begin.
`FUZZ_PAIRS=10000 FUZZ_SEED=1` tries other and more pairs (docs/testing.md).
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import ListConfig

from mixgan_cli.cli import COMMANDS
from mixgan_cli.commands import bench, export, report, train
from mixgan_cli.config.arguments import PATH_KEYS
from mixgan_cli.config.compose import groups, known_keys
from mixgan_cli.config.help import groups_of
from mixgan_cli.data import locate
from mixgan_cli.errors import UserError
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.models.sampler import Sampler
from tests.conftest import ALL, TINY
from tests.limits import limited
from tests.test_fuzz import defaults

PAIRS = int(os.environ.get("FUZZ_PAIRS", 1500 if ALL else 150))
SEED = int(os.environ.get("FUZZ_SEED", 0))
BYTES = 2**32
"""Memory that a case may take in addition to what the tests have."""
SHARES = {"train": 6, "bench": 3, "evaluate": 4}
"""Shares of the pairs, by command; 1 for the others, which have fewer keys."""
GOOD = "a good configuration"

NUMBERS = (
    "0", "-1", "1", "2", "3", "0.5", "-0.0", "1e-300", "1e300", "1e400", "-1e400", "nan", "-nan", "inf", "-inf",
    "1_000", "0x10", "2147483648", "9223372036854775808", "-9223372036854775809", "9" * 40, "9" * 5000,
    "true", "false", "null",
)  # fmt: skip
TEXTS = (
    "", "''", "' '", "???", "none", "all", "last", "best", "auto", "x", "a b", "a=b", "'a,b'", "ä✓𝔘", "'%s {0}'",
    "'\\\\'", "'#'", "'*'", "'['", "'${'", "'\x00'", "'\x01\x1b[31m\x7f'", "'\n'", "'a\r\nb'", "'\u202e\u2028'",
    "'\udc80'", "x" * 300, "x" * 5000,
)  # fmt: skip
CONTAINERS = (
    "[]", "[[]]", "{}", "[1,2]", "[null]", "[nan]", "[x]", "[x,x]", "[[1],[2]]", "[{}]", "[true,x,1]", "{a: 1}",
    "{1: 2}", "{a: {b: [1]}}", "{a: null}", "{x: x, y: y}", "{_target_: x}", "{_target_: null}",
    "{_target_: mixgan_cli.models.NoGate}",
    "{_target_: mixgan_cli.models.NoGate, k: [1]}", "{_recursive_: 1}", "{'': 1}", "[" * 40 + "]" * 40,
    "[" + ",".join(["1"] * 2000) + "]",
)  # fmt: skip
INTERPOLATIONS = (
    "${seed}", "${nothing}", "${.k}", "${..seed}", "${model}", "${data}", "${}", "${oc.env:NOTHING}",
    "${oc.decode:'['}",
    "${oc.create:{a: 1}}", "${oc.select:nothing,1}", "${oc.dict.keys:model}", "${no:such}", "x${seed}", "[${seed}]",
    "${hydra:runtime.cwd}",
)  # fmt: skip
PATHS = (
    "there",
    "empty",
    "nothing/here",
    "file",
    "file/below",
    "images.npy",
    "damaged.npz",
    "damaged.pt",
    "loop",
    "fifo",
)
"""Relative to the test's own folder, as is all that a case may write."""
PLAUSIBLE = {
    bool: ("true", "false"),
    int: ("0", "1", "2", "8", "16", "100", "null"),
    float: ("0", "0.001", "0.5", "1", "3", "null"),
    str: ("none", "auto", "layer", "batch", "uniform", "last", "x", "null"),
    list: ("[]", "[1,2]", "[0.0,0.9]", "[ms_ssim]", "[knn,fid]", "[x]"),
    type(None): ("null", "1", "32", "0.5", "x", "there"),
}
"""Values by type."""
HOSTILE = (NUMBERS, TEXTS, CONTAINERS, INTERPOLATIONS, PATHS)


def create_hostile_files() -> None:
    """Create what PATHS names in the current folder."""
    Path("there").mkdir()
    Path("there/images.npy").write_bytes(b"no array")
    for name, content in {"file": b"text", "empty": b"", "damaged.npz": b"PK\3\4" + bytes(40)}.items():
        Path(name).write_bytes(content)
    np.save("images.npy", np.zeros((16, 8, 8), np.uint8))
    Path("damaged.pt").write_bytes(b"\x80\x02")
    Path("loop").symlink_to("loop")
    os.mkfifo("fifo")


def good(*_: object, **__: object) -> None:
    """Stop where a command's work begins."""
    raise UserError(GOOD)


def stop_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no command do more than set up its work."""
    for owner, name in (
        (train, "open_run"), (train, "launch"), (bench, "begin"), (Evaluator, "evaluate"), (Evaluator, "measure"),
        (Sampler, "draw"), (export, "to_onnx"), (report, "_sections"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, good)
    monkeypatch.setattr(bench, "ceilings", lambda *_: SimpleNamespace(floor=0.0))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # the stacks of 1,000 threads are beyond BYTES
    for name in ("download_url", "download_file_from_google_drive"):
        monkeypatch.setattr(locate, name, good)
    monkeypatch.setattr("torchvision.datasets.MNIST.download", good)
    monkeypatch.setattr("torch.hub.download_url_to_file", good)


def base(command: str, run: Path) -> list[str]:
    """Return words with which a command works."""
    small = ["hardware=cpu", "evaluation.download=false", "evaluation.n_fake=16", "evaluation.n_real=16"]
    words = {
        "train": TINY,
        "bench": TINY,
        "evaluate": [f"run={run}", *small],
        "report": [f"paths={run}", "hardware=cpu"],
        "list": [f"paths={run}"],
        "fetch": ["data=digits"],
        "sample": [f"run={run}", "hardware=cpu", "n=4"],
        "export": [f"run={run}", "onnx=false"],
    }
    return list(words[command])


def hostile(chance: random.Random, key: str) -> str:
    """Return an override of a key or a group by a hostile value."""
    how = chance.choices(("{}={}", "++{}={}", "+{}={}", "~{}"), (16, 2, 1, 1))[0]
    return how.format(key, chance.choice(chance.choice(HOSTILE)))


def plausible(chance: random.Random, key: str, default: object) -> str:
    """Return an override of a key by a value of its type, of a group by one of its choices."""
    kind = list if isinstance(default, ListConfig) else type(default)
    return f"{key}={chance.choice(groups().get(key) or PLAUSIBLE.get(kind, PLAUSIBLE[type(None)]))}"


def keys_of(command: str) -> list[str]:
    """Return all keys of a command, and all groups that it has."""
    known, own = known_keys(COMMANDS[command].config), groups_of(COMMANDS[command].config)
    return [key for key in dict.fromkeys(known) if key in own or key not in groups()]


def pairs(command: str, number: int, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Yield pairs of keys: each key in turn, in a random order, with another one at random."""
    keys = keys_of(command)
    for key in islice(cycle(chance.sample(keys, len(keys))), number):
        yield key, chance.choice([other for other in keys if other != key])


def shortened(words: Sequence[str]) -> list[str]:
    """Return the words without the end of long ones, for people to read."""
    return [word if len(word) < 400 else f"{word[:60]}… ({len(word)} characters)" for word in words]


def names_a_key(message: str, words: Sequence[str], known: Sequence[str]) -> bool:
    """Return whether a message names a key of these words or a part of it, another key, or a given path."""
    given = [word.strip("+~").partition("=") for word in words]
    names = {name for key, _, _ in given for name in (key, *re.split(r"[./]", key))}
    if any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", message) for name in names):
        return True
    if any(
        message.partition(": ")[0][:100] in "\n".join(value.splitlines()) for key, _, value in given if key in PATH_KEYS
    ):
        return True
    return any(re.search(rf"\b{re.escape(key)}\b" if "." in key else rf"\b{key}[=:]", message) for key in known)


@pytest.mark.parametrize("command", COMMANDS)
def test_pairs_of_keys(mixgan, finished, monkeypatch, command):
    run = finished()
    stop_before_work(monkeypatch)
    create_hostile_files()
    chance = random.Random(f"{SEED} {command}")
    share = SHARES.get(command, 1) / sum(SHARES.get(name, 1) for name in COMMANDS)
    values = defaults(COMMANDS[command].config)
    known, wrong, ends, longest = known_keys(COMMANDS[command].config), [], {}, 0.0
    for keys in pairs(command, max(1, round(PAIRS * share)), chance):
        words = [hostile(chance, keys[0])]
        words += [
            hostile(chance, keys[1]) if chance.random() < 0.5 else plausible(chance, keys[1], values.get(keys[1]))
        ]
        chance.shuffle(words)
        began = time.process_time()
        try:
            with limited(BYTES):
                outcome = mixgan(command, *base(command, run), *words)
        except BaseException as error:
            wrong.append(f"{shortened(words)}: {type(error).__name__}: {error}"[:2000])
            continue
        longest = max(longest, time.process_time() - began)
        message = outcome.err.rpartition(f"mixgan {command}: ")[2]
        end = "worked" if outcome.code == 0 else "good" if GOOD in message else f"refused with {outcome.code}"
        ends[end] = ends.get(end, 0) + 1
        memory = outcome.code == 1 and "not enough memory" in message
        if "Traceback" in outcome.err or not (outcome.code in (0, 2) or memory):
            wrong.append(f"{shortened(words)}: exit code {outcome.code}\n{outcome.err[-2000:]}")
        elif end.startswith("refused") and not memory and not names_a_key(message, words, known):
            wrong.append(f"{shortened(words)}: no key in the message: {message[:500]}")
    print(f"{command}: {sum(ends.values())} pairs, {ends}, {len(wrong)} wrong, at most {longest:.1f} s")
    assert not wrong, f"FUZZ_SEED={SEED}: {len(wrong)} wrong\n" + "\n\n".join(wrong[:40])
