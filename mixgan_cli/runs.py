"""A run's folder: its identity, exclusive creation, what is in it and whether it is done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from omegaconf import OmegaConf

from mixgan_cli import __version__
from mixgan_cli.config.redact import masked
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import RunError
from mixgan_cli.runtime.io import inside, read_yaml, write_errors, write_json, write_text

NOT_IDENTITY = frozenset(
    {
        "force",
        "sweep",
        "logger",
        "paths",
        "hardware.device",
        "hardware.devices",
        "hardware.nodes",
        "hardware.rendezvous",
        "hardware.threads",
        "hardware.channels_last",
        "hardware.capture",
        "hardware.compile",
        "hardware.data_on",
        "evaluation.weights",
        "evaluation.download",
        "evaluation.name",
        "evaluation.batch",
        "training.report_nimg",
        "training.sample_nimg",
        "training.figures",
        "training.checkpoint_nimg",
        "training.keep",
        "training.max_skipped",
    }
)
"""Keys that do not change the result: where it runs, how it is logged, where files are, how often they are written."""


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes this run this run: every resolved key and value but those of NOT_IDENTITY, flat."""
    flat = dict(_flat(config))
    if not flat.get("alarms.stop"):  # alarms that only warn
        flat = {key: value for key, value in flat.items() if not key.startswith("alarms.")}
    return {key: value for key, value in flat.items() if tells(key)}


def tells(key: str) -> bool:
    """Whether a key, or a group's name, belongs to a run's identity."""
    steps = key.split(".")
    return not any(".".join(steps[:length]) in NOT_IDENTITY for length in range(1, len(steps) + 1))


def hash_of(run: Run) -> str:
    """Return 8 hexadecimal digits that stand for the identity."""
    told = json.dumps(identity(run.model_dump(mode="json")), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def name_of(run: Run) -> str:
    """Return data, model, hash of the identity, and seed: digits-hmog-1a2b3c4d-0."""
    return f"{run.data['name']}-{run.model.name}-{hash_of(run)}-{run.seed}"


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """The log: a JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The final metrics with their protocol."""
        return self.path / "results.json"

    @property
    def samples(self) -> Path:
        """The sample grids."""
        return self.path / "samples"

    @property
    def figures(self) -> Path:
        """What the run learned, in pictures."""
        return self.path / "figures"

    @property
    def done(self) -> bool:
        """Whether the run and its evaluation finished."""
        return (self.path / "DONE").is_file()

    def checkpoint(self, which: str) -> Path:
        """Return the path of the state called last or best, or of one named by images shown: 000250000."""
        return self.path / "checkpoints" / f"{which}.pt"

    def kept(self) -> list[Path]:
        """Return the states kept beside the last one, checkpoints/000250000.pt and the like, the oldest first."""
        return sorted(self.checkpoint("last").parent.glob("[0-9]*.pt"))

    @property
    def generator(self) -> Path:
        """The generator alone, for reuse."""
        return self.path / "checkpoints" / "generator.safetensors"

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            RunError: this is not a run's folder, or its configuration is none.
        """
        if not self.config.is_file():
            raise RunError(f"{self.path}: not a run's folder (no config.yaml)")
        return read_yaml(self.config)

    def read_results(self) -> dict[str, Any]:
        """Return results.json.

        Raises:
            RunError: it is not there, or damaged.
        """
        try:
            results = json.loads(self.results.read_text(encoding="utf-8"))
            if not isinstance(results, dict) or {"metrics", "unavailable"} - results.keys():
                raise ValueError("no results")
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.results}: missing or damaged; without DONE beside it the run goes on") from error
        return results

    def told(self) -> dict[str, Any]:
        """Return what a finished run says on stdout: its folder, its metrics, and what was unavailable."""
        results = self.read_results()
        return {"run_dir": str(self.path), "metrics": results["metrics"], "unavailable": results["unavailable"]}

    def mark_done(self) -> None:
        """Say that all is written. The last file of a run."""
        write_text(self.path / "DONE", time.strftime("%Y-%m-%dT%H:%M:%S%z\n"))

    def mark_failed(self, error: BaseException) -> None:
        """Keep the error, where anything can still be written, and in the error which run it ended.

        The first error stays: others may follow from it.
        """
        error.run_dir = str(self.path)  # type: ignore[attr-defined]
        if (self.path / "FAILED").exists():
            return
        with suppress(OSError):
            write_text(self.path / "FAILED", masked(f"{type(error).__name__}: {error}\n"))


@dataclass(frozen=True)
class OpenRun:
    """A folder this process holds, so that no other writes to it."""

    folder: RunFolder
    lock: TextIO | None

    def close(self) -> None:
        """Let go of the folder."""
        if self.lock is not None:
            self.lock.close()


def open_run(run: Run) -> OpenRun:
    """Create the run's folder, or return the one that is there: unfinished, to be resumed, or done.

    With `force`, a finished run is left alone and a new folder is taken beside it (…-2, …-3).

    Raises:
        RunError: the folder cannot be written, belongs to another configuration, or is in use.
    """
    base = Path(run.paths.run or Path(run.paths.outputs) / name_of(run))
    folder = next(c for c in _candidates(base) if not (run.force and RunFolder(c).done))
    opened = RunFolder(folder)
    with write_errors(f"paths.outputs: {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():  # it may be another's: what is written to it stays in it
            inside(entry, folder)
        if opened.done:
            _refuse_other(opened, run)
            return OpenRun(opened, None)
        lock = (folder / ".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(f"{folder}: another process is at work on this run") from error
    if opened.config.is_file():
        _refuse_other(opened, run)
        (folder / "FAILED").unlink(missing_ok=True)  # of an earlier try
    else:
        write_text(opened.config, OmegaConf.to_yaml(OmegaConf.create(run.model_dump(mode="json"))))
    return OpenRun(opened, lock)


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return a line for each key of the identity in which two configurations differ."""
    before, after = identity(stored), identity(wanted)
    return [
        f"{key}: {before.get(key, 'absent')} there, {after.get(key, 'absent')} here"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def environment() -> dict[str, Any]:
    """Return versions, platform, git commit and whether the tree was dirty."""
    import torch
    import torchvision

    return {
        "mixgan": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "platform": platform.platform(),
        "command": [masked(word) for word in sys.argv],
        **_git(),
    }


def write_environment(folder: RunFolder, extra: Mapping[str, Any]) -> None:
    """Write environment.json."""
    write_json(folder.path / "environment.json", {**environment(), **extra})


def _refuse_other(folder: RunFolder, run: Run) -> None:
    different = differences(folder.read_config(), run.model_dump(mode="json"))
    if different:
        raise RunError(
            f"{folder.path}: this folder belongs to another configuration:\n  " + "\n  ".join(different) + "\n"
            "Go on with the configuration of the folder, or take another paths.run"
        )


def _candidates(base: Path) -> Iterator[Path]:
    yield base
    number = 2
    while True:
        yield base.with_name(f"{base.name}-{number}")
        number += 1


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _git() -> dict[str, Any]:
    here = Path(__file__).parents[1]
    if not (here / ".git").exists():  # installed: a repository around site-packages is not ours
        return {"git_commit": None, "git_dirty": None}

    def ask(*arguments: str) -> str | None:
        asked = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
        return asked.stdout.strip() if asked.returncode == 0 else None

    try:
        commit, changes = ask("rev-parse", "HEAD"), ask("status", "--porcelain")
    except OSError:  # no git on this machine
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}
