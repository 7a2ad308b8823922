"""A run's folder: identity, exclusive access, files, and whether the run is finished."""

from __future__ import annotations

import logging
import math
import platform
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mixgan_cli import __version__
from mixgan_cli.config.identity import ADDED, identity, run_name
from mixgan_cli.config.keys import prefixes
from mixgan_cli.config.redact import masked
from mixgan_cli.config.schema import Run
from mixgan_cli.errors import RunError, error_summary
from mixgan_cli.runtime.io import remove_leftovers, try_lock, write_errors, write_json, write_text
from mixgan_cli.runtime.outputs import check_folder
from mixgan_cli.runtime.reading import inside, open_regular, read_errors, read_json, read_yaml

log = logging.getLogger("mixgan")


def run_folder(run: Run) -> Path:
    """Return the path of the run's folder, before a suffix that `force` adds."""
    return Path(run.paths.run or Path(run.paths.outputs) / run_name(run))


METRIC_NAME = re.compile(r"\w[\w.+-]{0,99}")
"""Names of metrics that are accepted from a file: tables, plots and files are named after metrics."""

GROUPS = ("choices", "data", "model", "objective", "training", "evaluation")
"""Keys of a configuration that have keys of their own."""
NOT_A_RUN = "not a run's folder (no config.yaml)"
EVALUATE_AGAIN = "Remove DONE, and the same command evaluates the run again"


@dataclass(frozen=True)
class Results:
    """The content of results.json."""

    run: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Finite numbers, or lists and tables of them."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Why a metric could not be computed."""


def read_result(path: Path, folder: Path, hint: str = "") -> Results:
    """Return the content of a file in a folder, without metrics that are not finite numbers or tables of them.

    Raises:
        RunError: the file is damaged, or a link out of the folder. The message ends with the hint.
    """
    with read_errors(path, hint):
        content = read_json(path, folder, hint)
        metrics = {
            name: value
            for name, value in dict(content["metrics"]).items()
            if METRIC_NAME.fullmatch(name) and _is_finite(value)
        }
        unavailable = {str(name)[:100]: str(why)[:2000] for name, why in dict(content["unavailable"]).items()}
        run, protocol = (dict(content.get(key) or {}) for key in ("run", "protocol"))
    return Results(run, protocol, metrics, unavailable)


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
        """The log, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def results(self) -> Path:
        """The final metrics with their protocol."""
        return self.path / "results.json"

    @property
    def evaluations(self) -> Path:
        """The folder of what `mixgan evaluate` measured later, one file per protocol and state."""
        return self.path / "evaluations"

    @property
    def samples(self) -> Path:
        """The sample grids."""
        return self.path / "samples"

    @property
    def figures(self) -> Path:
        """The folder of plots of what the run learned."""
        return self.path / "figures"

    @property
    def done(self) -> bool:
        """True if the run and its evaluation are finished."""
        return (self.path / "DONE").is_file()

    @property
    def in_use(self) -> bool:
        """True if a process is training this run on a file system with locks."""
        try:
            with open_regular(self.path / ".lock") as lock:
                return not try_lock(lock, shared=True)
        except OSError:
            return False

    @property
    def state(self) -> str:
        """What became of the run: finished, failed, training, or interrupted."""
        if self.done:
            return "finished"
        if self.in_use:
            return "training"
        return "failed" if (self.path / "FAILED").is_file() else "interrupted"

    def checkpoint(self, which: str) -> Path:
        """Return the path of a checkpoint: last, best, or a number of images shown such as 000250000."""
        return self.path / "checkpoints" / f"{which}.pt"

    def find_checkpoint(self, which: str) -> Path:
        """Return the path of a checkpoint that exists: last, best, or a number of images shown (250000, 250_000).

        Raises:
            RunError: there is none; the message lists those that there are.
        """
        if not self.config.is_file():
            raise RunError(f"{self.path}: {NOT_A_RUN}")
        digits = which.replace("_", "")
        path = self.checkpoint(f"{int(digits):09d}" if digits.isdecimal() else which)
        if not path.is_file():
            there = [name for name in ("last", "best") if self.checkpoint(name).is_file()]
            there += [f"{int(old.stem):_}" for old in self.older_checkpoints()]
            hint = f"There are {', '.join(there)}" if there else "The run has saved none yet"
            more = "" if which in ("last", "best") else "; training.keep is the number of older ones that are kept"
            raise RunError(f"checkpoint={which}: {self.path} has no such checkpoint. {hint}{more}")
        return path

    def older_checkpoints(self) -> list[Path]:
        """Return the checkpoints named by images shown, such as checkpoints/000250000.pt, the oldest first."""
        return sorted(self.checkpoint("last").parent.glob("[0-9]*.pt"))

    @property
    def generator(self) -> Path:
        """The file of the generator alone, for reuse."""
        return self.path / "checkpoints" / "generator.safetensors"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved configuration."""
        write_text(self.config, OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            RunError: this is not a run's folder, or its configuration is damaged.
        """
        if not self.config.is_file():
            raise RunError(f"{self.path}: {NOT_A_RUN}")
        config = read_yaml(self.config)
        for key in GROUPS:
            if not isinstance(config.get(key, {}), Mapping):
                raise RunError(f"{self.config}: {key}: not what mixgan writes, or damaged")
        return config

    def read_results(self) -> Results:
        """Return the content of results.json, without metrics that are not finite numbers or tables of them.

        Raises:
            RunError: the file is missing, damaged, or a link out of the folder.
        """
        if not self.results.is_file():
            raise RunError(f"{self.results}: missing. {EVALUATE_AGAIN}")
        return read_result(self.results, self.path, EVALUATE_AGAIN)

    def read_evaluations(self) -> list[Results]:
        """Return what `mixgan evaluate` measured of this run, one entry per protocol and state.

        Raises:
            RunError: a file is damaged, or a link out of the folder.
        """
        return [read_result(path, self.path, "Delete it") for path in sorted(self.evaluations.glob("[!.]*.json"))]

    def summary(self) -> dict[str, Any]:
        """Return what a finished run prints on stdout: its folder, its metrics, and which metrics were unavailable."""
        results = self.read_results()
        return {"run_dir": str(self.path), "metrics": results.metrics, "unavailable": results.unavailable}

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a killed process that trained this run, but not those of other commands."""
        for written in (self.path, self.checkpoint("last").parent, self.figures, self.figures / "dark"):
            remove_leftovers(inside(written, self.path), seconds=0)
        for drawn in ("[0-9]*.png", "real.png"):  # `mixgan sample` may be writing others
            remove_leftovers(self.samples, drawn, seconds=0)

    def mark_done(self) -> None:
        """Write DONE, the last file of a run."""
        write_text(self.path / "DONE", time.strftime("%Y-%m-%dT%H:%M:%S%z\n"))

    def mark_failed(self, error: BaseException) -> None:
        """Write the error to FAILED if the disk allows it, and set the run's folder as the error's `run_dir`.

        An existing FAILED is kept, because later errors may follow from the first. A folder that was moved is not made
        again.
        """
        error.run_dir = str(self.path)  # type: ignore[attr-defined]
        if (self.path / "FAILED").exists() or not self.config.is_file():
            return
        with suppress(OSError):
            write_text(self.path / "FAILED", masked(f"{type(error).__name__}: {error}\n"))


@contextmanager
def open_run(run: Run) -> Iterator[RunFolder]:
    """Create the run's folder, or open an existing one, and lock it inside the block unless the run is finished.

    With `force`, a finished run is left as it is, and a new folder with the suffix -2, -3, … is used.

    Raises:
        RunError: the folder cannot be written, belongs to another configuration, has files of something else, or is
            used by another process.
    """
    base, key = run_folder(run), "paths.run" if run.paths.run else "paths.outputs"
    check_folder(base, key)
    folder = next(each for each in map(RunFolder, _candidates(base)) if not (run.force and each.done))
    with write_errors(f"{key}: {folder.path}"):
        folder.path.mkdir(parents=True, exist_ok=True)
        for entry in folder.path.iterdir():  # someone else may have made the folder, with links out of it
            inside(entry, folder.path)
        lock = None if folder.done else open_regular(folder.path / ".lock", "ab")
    if lock is None:
        _check_same_configuration(folder, run)
        yield folder
        return
    with lock:
        with write_errors(f"{key}: {folder.path}"):
            if not try_lock(lock):
                raise RunError(f"{folder.path}: another process is at work on this run")
            if folder.config.is_file():
                _check_same_configuration(folder, run)
                (folder.path / "FAILED").unlink(missing_ok=True)  # from an earlier attempt
                folder.remove_leftovers()
            else:
                _refuse_other_files(folder, key)
                remove_leftovers(folder.path, folder.config.name, seconds=0)
                if not run.force:
                    _report_other_names(folder.path)
                folder.write_config(run.model_dump(mode="json"))
        yield folder


def config_differences(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str] = ()
) -> list[str]:
    """Return one line per key of the identity that differs between two configurations, apart from ignored keys."""
    before, after = (
        {key: value for key, value in identity(config).items() if not {*prefixes(key)} & {*ignored}}
        for config in (stored, wanted)
    )
    return [
        f"{key}: {before.get(key, 'absent')} there, {after.get(key, 'absent')} here"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, ADDED.get(key)) != after.get(key, ADDED.get(key))
    ]


def environment() -> dict[str, Any]:
    """Return versions, platform, git commit, and whether the working tree was dirty."""
    import torch
    import torchvision

    return {
        "mixgan": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "platform": platform.platform(),
        "command": [masked(word) for word in sys.argv if not word.startswith("hydra.sweep.dir=")],  # mixgan adds it
        **_git(),
    }


def write_environment(folder: RunFolder, extra: Mapping[str, Any]) -> None:
    """Write environment.json, or log a warning if it cannot be written."""
    try:
        write_json(folder.path / "environment.json", {**environment(), **extra})
    except OSError as error:
        log.warning("warning: environment.json could not be written (%s); the run continues", error_summary(error))


def _check_same_configuration(folder: RunFolder, run: Run) -> None:
    different = config_differences(folder.read_config(), run.model_dump(mode="json"))
    if different:
        raise RunError(
            f"{folder.path}: this folder belongs to another configuration:\n  " + "\n  ".join(different) + "\n"
            "Use the configuration of the folder, or another paths.run"
        )


def _refuse_other_files(folder: RunFolder, key: str) -> None:
    """Refuse a folder that is to become a run's, but has a file, or a folder with files, that the run would change."""
    paths = (folder.results, folder.metrics, folder.generator.parent, folder.samples, folder.figures)
    found = [path.name for path in paths if path.is_file() or (path.is_dir() and any(path.iterdir()))]
    if found:
        raise RunError(
            f"{key}: {folder.path}: {', '.join(found)} would be changed, but there is no config.yaml, so this is not a "
            "run's folder. Give another folder"
        )


def free_name(path: Path) -> Path:
    """Return the path, or the first one with the suffix -2, -3, … where there is no run."""
    return next(each for each in _candidates(path) if not RunFolder(each).config.is_file())


def _report_other_names(new: Path) -> None:
    """Log which other folders hold the run that is about to start in a new folder: those whose name ends like its."""
    shared = re.search(r"-[0-9a-f]{8}-s\d+$", new.name)
    for other in sorted(new.parent.glob(f"*{shared[0]}")) if shared else []:
        if other != new and RunFolder(other).config.is_file():
            log.info("%s: a run with the same configuration and seed, under another name: %s", new, other)


def _candidates(base: Path) -> Iterator[Path]:
    yield base
    number = 2
    while True:
        yield base.with_name(f"{base.name}-{number}")
        number += 1


def _is_finite(value: Any, depth: int = 0) -> bool:
    """Return whether a value is a finite number, or a list or a table of finite numbers."""
    if isinstance(value, list):
        return depth < 2 and len(value) <= 2**12 and all(_is_finite(part, depth + 1) for part in value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < 1e300 and math.isfinite(value)


def _git() -> dict[str, Any]:
    here = Path(__file__).parents[1]
    if not (here / ".git").exists():  # installed, perhaps inside some other repository
        return {"git_commit": None, "git_dirty": None}

    def git(*arguments: str) -> str | None:
        result = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except OSError:  # git is not installed
        return {"git_commit": None, "git_dirty": None}
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}
