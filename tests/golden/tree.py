"""Run the program of one tree and return what came out.

As a script it records a whole tree in one process: it reads a JSON object from stdin, {"to": FILE, "folder": FOLDER,
"tree": CHECKOUT, "cases": {name: overrides}, "experiments": {name: overrides}}, and writes the recording to FILE:
{"cases": {name: {section: {key: value}}}, "experiments": {name: {key: value}}, "failed": {name: message}}.
It imports the `mixgan_cli` that PYTHONPATH names, and of that only the command line.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

TIMES = ("seconds", "img_per_second")
"""Columns of the log that differ from run to run."""
NOT_RESULTS = ("run.name", "run.hash", "run.seconds", "run.img_per_second", "run.evaluation_share")
"""Keys of results.json that are times, or follow from the names of configuration keys."""


def call(*arguments: str) -> str:
    """Run one command of the program in this process and return its stdout.

    Raises:
        RuntimeError: its exit code is not 0; the message ends with its stderr.
    """
    from hydra.core.global_hydra import GlobalHydra

    from mixgan_cli import cli

    out, err = io.StringIO(), io.StringIO()
    log = logging.getLogger("mixgan")
    argv = sys.argv
    log.handlers.clear()
    GlobalHydra.instance().clear()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(arguments)
    finally:
        log.handlers.clear()
        sys.argv = argv
    if code:
        raise RuntimeError(f"mixgan {' '.join(arguments)} ended with exit code {code}:\n{err.getvalue()[-3000:]}")
    return out.getvalue()


def train(overrides: Sequence[str], outputs: Path) -> dict[str, dict[str, Any]]:
    """Train one case and return its weights, moving average, losses and results, each as {key: value}."""
    last = call("train", *overrides, f"paths.outputs={outputs}").strip().splitlines()[-1]
    run = Path(json.loads(last)["run_dir"])
    state = torch.load(run / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    results = flat(json.loads((run / "results.json").read_text(encoding="utf-8")))
    return {
        "weights": {f"{net}.{name}": t for net in ("generator", "discriminator") for name, t in state[net].items()},
        "moving average": dict(state["ema"]),
        "losses": {
            f"{row}.{key}": value
            for row, record in enumerate(log, 1)
            for key, value in record.items()
            if key not in TIMES
        },
        "results": {key: value for key, value in results.items() if key not in NOT_RESULTS},
    }


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the resolved configuration of a training run as {dotted key: value}."""
    return flat(yaml.safe_load(call("train", *overrides, "--cfg", "job", "--resolve")))


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested mappings as {dotted key: value}; lists of mappings are numbered, other lists are values."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        return {key: value}
    return {k: v for name, item in items for k, v in flat(item, f"{key}.{name}" if key else str(name)).items()}


def main() -> None:
    """Record what stdin asks for.

    Raises:
        RuntimeError: the program is not that of the tree.
    """
    import mixgan_cli

    asked = json.load(sys.stdin)
    if Path(asked["tree"]) not in Path(mixgan_cli.__file__).parents:
        raise RuntimeError(f"{mixgan_cli.__file__} is not in {asked['tree']}")
    recording: dict[str, dict[str, Any]] = {"cases": {}, "experiments": {}, "failed": {}}
    for part in ("cases", "experiments"):
        for name, overrides in asked[part].items():
            try:
                done = train(overrides, Path(asked["folder"], name)) if part == "cases" else compose(overrides)
                recording[part][name] = done
            except RuntimeError as error:
                recording["failed"][name] = str(error)
    torch.save(recording, asked["to"])


if __name__ == "__main__":
    main()
