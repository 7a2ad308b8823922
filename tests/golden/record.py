"""Record a tree: `python -m tests.golden.record FOLDER [--tree CHECKOUT] [--renamed]`.

Writes FOLDER/recording.pt, every number, and FOLDER/recorded.json, the summary that tests/test_golden.py compares with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.golden.cases import cases
from tests.golden.renames import Renames

HERE = Path(__file__).resolve().parents[2]
OTHER_ARITHMETIC = (
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
)
"""Variables that make PyTorch round and sum as on other processors."""
UNSTABLE = 1e-4
"""Numbers that differ by more under other arithmetic, relative to their scale, are not kept.

Nearly all of them are biases before a batch norm and its running means: the gradients of these biases are zero but for
rounding, and Adam takes steps of full size on them.
"""
TOLERANCE = 1e-3
"""Largest difference of a kept number, relative to its scale: ten times what the other arithmetic may cause."""
ROUNDING = "rounding decides"
"""In place of a number that is not kept."""
FLOOR = 1e-3
"""The smallest scale of a number of the log or the results."""
DIGITS = 6
"""Significant digits of a number in the summary."""
ENTRIES = 4
"""Entries of each tensor in the summary."""

Recording = dict[str, Any]
"""What tree.py returns, with "overrides": {"cases": {name: words}, "experiments": {name: words}}."""


def record(
    tree: Path,
    renames: Renames | None = None,
    experiments: Sequence[str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Recording:
    """Run all cases in a tree, and compose its experiments, in one process of its own.

    Args:
        tree: a checkout.
        renames: translate the overrides to this tree's names.
        experiments: their names; None: all of the tree.
        variables: more environment variables.

    Raises:
        subprocess.CalledProcessError: the tree's program cannot be run at all.
    """
    tree = tree.resolve()
    names = experiments_of(tree) if experiments is None else experiments
    asked = {"cases": cases(), "experiments": {name: [f"experiment={name}"] for name in names}}
    overrides = {
        kind: {name: renames.overrides(name, words) if renames else words for name, words in runs.items()}
        for kind, runs in asked.items()
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MIXGAN_")}
    with tempfile.TemporaryDirectory() as folder:
        environment |= {"PYTHONPATH": str(tree), "MIXGAN_CACHE": folder, "OMP_NUM_THREADS": "1", **(variables or {})}
        to = Path(folder, "recording.pt")
        subprocess.run(
            [sys.executable, str(HERE / "tests" / "golden" / "tree.py")],
            input=json.dumps({"to": str(to), "folder": folder, "tree": str(tree), **overrides}),
            text=True,
            cwd=folder,
            env=environment,
            check=True,
        )
        return {**torch.load(to, weights_only=True), "overrides": overrides}


def experiments_of(tree: Path) -> list[str]:
    """Return the names of a tree's experiments; those that begin with an underscore are parts of others."""
    return sorted(p.stem for p in (tree / "conf" / "experiment").glob("*.yaml") if not p.stem.startswith("_"))


def summary(recording: Recording, others: Sequence[Recording]) -> dict[str, Any]:
    """Return what the repository keeps: a few numbers of each tensor, and configurations as differences to the first.

    Args:
        recording: of a tree.
        others: of the same tree in other arithmetic, which tell the numbers that rounding decides.

    Returns:
        {"cases": {name: {"overrides": words, section: {key: value}}}, "base": {key: value},
        "experiments": {name: {"changed": {key: value}, "absent": keys}}}
    """
    kept: dict[str, Any] = {}
    for name, sections in recording["cases"].items():
        kept[name] = {"overrides": recording["overrides"]["cases"][name], **summary_of_case(sections)}
        for section, values in sections.items():
            for key, value in values.items():
                if any(not _stable(value, other["cases"][name][section][key]) for other in others):
                    shape = {"shape": list(value.shape), "numbers": ROUNDING} if isinstance(value, Tensor) else ROUNDING
                    kept[name][section][key] = shape
    composed = recording["experiments"]
    base = next(iter(composed.values()))
    changes = {
        name: {
            "changed": {key: value for key, value in config.items() if key not in base or base[key] != value},
            "absent": sorted(base.keys() - config.keys()),
        }
        for name, config in composed.items()
    }
    return {"cases": kept, "base": base, "experiments": changes}


def summary_of_case(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return one case's recording with each tensor as {"shape": [...], "scale": s, "numbers": [...]}.

    The numbers are the mean, the standard deviation and some entries; the scale is what differences are relative to.
    """
    return {
        section: {
            key: _tensor(value) if isinstance(value, Tensor) else _rounded(value) for key, value in values.items()
        }
        for section, values in sections.items()
    }


def close(recorded: Any, now: Any) -> bool:
    """Whether a value of today's summary is the recorded one, but for rounding."""
    if isinstance(recorded, str) and recorded == ROUNDING:
        return True
    if isinstance(recorded, dict) and recorded:
        scales = {"abs_tol": TOLERANCE * recorded.get("scale", 0.0)}
        if recorded["shape"] != now["shape"]:
            return False
        return recorded["numbers"] == ROUNDING or _all_close(recorded["numbers"], now["numbers"], **scales)
    if _is_numbers(recorded) and _is_numbers(now):
        return _all_close(recorded, now, TOLERANCE * FLOOR)
    return recorded == now


def configuration(recorded: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an experiment's configuration from a summary."""
    change = recorded["experiments"][name]
    kept = {key: value for key, value in recorded["base"].items() if key not in change["absent"]}
    return kept | change["changed"]


def write(recording: Recording, others: Sequence[Recording], folder: Path) -> None:
    """Write a recording and its summary, one case or experiment a line."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(recording, folder / "recording.pt")
    parts = []
    for part, content in summary(recording, others).items():
        lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in content.items()]
        parts.append(f'"{part}": {{\n' + ",\n".join(lines) + "\n}")
    (folder / "recorded.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _all_close(recorded: Any, now: Any, abs_tol: float) -> bool:
    recorded, now = (value if isinstance(value, list) else [value] for value in (recorded, now))
    pairs = zip(recorded, now, strict=False)
    return len(recorded) == len(now) and all(math.isclose(*pair, rel_tol=TOLERANCE, abs_tol=abs_tol) for pair in pairs)


def _is_numbers(value: Any) -> bool:
    return isinstance(value[0] if isinstance(value, list) and value else value, float)


def _tensor(tensor: Tensor) -> dict[str, Any]:
    entries = tensor.double().flatten()
    some = entries[torch.linspace(0, len(entries) - 1, min(ENTRIES, len(entries))).long()]
    numbers = [entries.mean().item(), entries.std(correction=0).item(), *some.tolist()]
    return {"shape": list(tensor.shape), "scale": _rounded(_scale(entries)), "numbers": _rounded(numbers)}


def _scale(tensor: Tensor) -> float:
    """Return the size of a tensor's entries, which differences are relative to."""
    return max(tensor.std(correction=0).item(), tensor.mean().abs().item())


def _stable(value: Any, other: Any) -> bool:
    """Whether a value stays the same under other arithmetic, to UNSTABLE of its scale."""
    if isinstance(value, Tensor):
        before, now = value.double(), other.double()
        return (before - now).abs().max().item() <= UNSTABLE * _scale(before)
    pairs = zip(*(v if isinstance(v, list) else [v] for v in (value, other)), strict=True)
    return all(abs(a - b) <= UNSTABLE * max(abs(a), FLOOR) for a, b in pairs if isinstance(a, float))


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main() -> int:
    """Record one tree."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden.record", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--tree", type=Path, default=HERE, help="the checkout to record; else this one")
    parser.add_argument("--renamed", action="store_true", help="translate the overrides with renames.yaml")
    options = parser.parse_args()
    renames = Renames() if options.renamed else None
    recording, *others = (record(options.tree, renames, variables=v) for v in ({}, *OTHER_ARITHMETIC))
    for name, message in recording["failed"].items():
        print(f"{name}: {message}", file=sys.stderr)
    if recording["failed"]:
        return 1
    write(recording, others, options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
