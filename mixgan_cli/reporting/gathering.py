"""Which runs a report is about: those of the folders it is given, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixgan_cli.errors import RunError, UserError
from mixgan_cli.reporting.written import as_written, read_text
from mixgan_cli.runs import RunFolder, identity
from mixgan_cli.sweeps.sweep import Job, Sweep

FIRST = ("data", "model", "model.k", "model.beta", "seed")
"""What is told of runs before anything else in which they differ."""


def gather(paths: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """Return the jobs of sweeps, and a job for each run that was not part of one, in the order of the paths.

    A path is a run's folder, a sweep's, or one that holds runs; each run counts once. Of several, those that cannot be
    read are left out, and the second list says which.

    Raises:
        RunError: there is nothing of that kind, or the only run cannot be read.
    """
    of_sweeps: list[Job] = []
    runs: list[Path] = []
    for path in paths:
        if (path / "jobs").is_dir():
            with as_written(path / "jobs"):
                of_sweeps += [_here(job, path) for job in Sweep(path, None, 1, False, None, ()).jobs()]
        elif (path / "config.yaml").is_file():
            runs.append(path)
        else:
            within = sorted(config.parent for config in path.glob("*/config.yaml"))
            if not within:
                raise RunError(_not_there(path))
            runs += within
    once = {Path(job.run_dir).resolve() if job.run_dir else job.overrides: job for job in of_sweeps}
    jobs, remarks = _as_jobs(
        [run for run in {path.resolve(): path for path in runs}.values() if run.resolve() not in once]
    )
    return [*once.values(), *jobs], remarks


def _as_jobs(runs: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """A job for each run, its values all in which runs of one data set, model, K and beta differ but their seeds."""
    described, remarks = {}, []
    for run in runs:
        try:
            with as_written(run):
                described[run] = _describe(RunFolder(run).read_config())
        except UserError as error:
            if len(runs) == 1:
                raise
            remarks.append(f"left out: {error}")
    keys = [key for key in FIRST if key in ("data", "model") or len({of.get(key) for of in described.values()}) > 1]
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for of in described.values():
        alike.setdefault(tuple(of.get(key) for key in FIRST if key != "seed"), []).append(of)
    others = dict.fromkeys(key for of in described.values() for key in of if key not in FIRST)
    keys += [key for key in others if any(len({of.get(key) for of in group}) > 1 for group in alike.values())]
    return [_job(number, run, of, keys) for number, (run, of) in enumerate(described.items())], remarks


def _job(number: int, run: Path, of: Mapping[str, Any], keys: Sequence[str]) -> Job:
    folder, failed = RunFolder(run), run / "FAILED"
    job = Job(tuple(f"{key}={of.get(key)}" for key in keys), number, "begun", run_dir=str(run))
    if folder.done:
        return replace(job, status="done", exit_code=0)
    if failed.is_file():
        return replace(job, status="failed", error=read_text(failed, run))
    return job


def _describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is, flat: its identity, and data and model by the names one would choose them by.

    Without where its data lay, and without a split that follows the seed; protocols are told apart by themselves.
    """
    left_out = {"data.root"} | ({"data.split_seed"} if config["data"].get("split_seed") == config["seed"] else set())
    told = {
        key: json.dumps(value) if isinstance(value, (list, dict)) else value
        for key, value in identity(config).items()
        if not key.startswith("evaluation.") and key not in left_out
    }
    told |= {"data": str(config["data"]["name"]), "model": str(config["model"]["name"])}
    return told


def _not_there(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such folder"
    above = next((folder for folder in path.resolve().parents if (folder / "config.yaml").is_file()), None)
    hint = f". The run is {above}" if above else ""
    return f"{path}: neither a run's folder, nor a sweep's, nor one that holds runs{hint}"


def _here(job: Job, sweep: Path) -> Job:
    """A job whose run's folder is found also where the command is given from another folder than the sweep was."""
    if not job.run_dir or Path(job.run_dir).is_dir():
        return job
    name = Path(job.run_dir).name
    beside = next((above / name for above in sweep.resolve().parents if (above / name / "config.yaml").is_file()), None)
    return replace(job, run_dir=str(beside)) if beside else job
