"""Compare two trees bit for bit on this machine: `python -m tests.golden.compare OLD_TREE NEW_TREE`.

Prints a table in Markdown, then every difference by name. The exit code is 1 where a difference is not declared in
renames.yaml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.golden.record import Recording, experiments_of, record
from tests.golden.renames import SECTIONS, Renames


def compare(old: Recording, new: Recording, renames: Renames) -> tuple[list[str], list[str]]:
    """Compare two recordings of one machine.

    Returns:
        The lines of a Markdown table, and a line for each difference that is not declared.
    """
    rows = [f"| case | {' | '.join(SECTIONS)} |", f"|---{'|---' * len(SECTIONS)}|"]
    unexpected = [
        f"{side} tree: {name}: {message.strip().splitlines()[-1]}"
        for side, recording in (("old", old), ("new", new))
        for name, message in recording["failed"].items()
    ]
    for name, before in old["cases"].items():
        cells = []
        for section in SECTIONS:
            now = new["cases"].get(name, {}).get(section)
            lines = [] if now is None else renames.differences(name, section, before[section], now, equal)
            cells.append(_cell(before[section], now, lines))
            unexpected += [f"{name}, {section}: {line}" for line in lines]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    same = 0
    for name, before in old["experiments"].items():
        now = new["experiments"].get(name)
        lines = [] if now is None else renames.differences(name, "configuration", before, now, equal)
        same += now is not None and not lines
        unexpected += [f"{name}, configuration: {line}" for line in lines]
    rows += ["", f"Composed experiments: {same} of {len(old['experiments'])} equal."]
    return rows, unexpected


def equal(old: Any, new: Any) -> bool:
    """Whether two values are equal to the last bit."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        return old.dtype == new.dtype and torch.equal(old, new)
    return type(old) is type(new) and old == new


def _cell(old: Mapping[str, Any], new: Mapping[str, Any] | None, differences: list[str]) -> str:
    if new is None:
        return "**failed**"
    return f"**{len(differences)} of {len(old)} differ**" if differences else f"equal ({len(old)})"


def main() -> int:
    """Record both trees and print how they differ."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden.compare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("old", type=Path, help="a checkout from before, in the names of tests/golden/cases.py")
    parser.add_argument("new", type=Path, help="a checkout of today, in the names that renames.yaml translates to")
    options = parser.parse_args()
    renames = Renames()
    old = record(options.old)
    new = record(options.new, renames, experiments_of(options.old))
    rows, unexpected = compare(old, new, renames)
    print("\n".join(rows))
    if renames.used:
        print("\nDeclared differences, and how often each occurs:\n")
        print("\n".join(f"- {what} ({count})" for what, count in sorted(renames.used.items())))
    if unexpected:
        print(f"\n{len(unexpected)} differences are not declared:\n")
        print("\n".join(f"- {line}" for line in unexpected))
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
