"""Which runs a report is about: those of the folders it is given, and what tells them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixgan_cli.composition import name_of_data
from mixgan_cli.errors import RunError
from mixgan_cli.runs import RunFolder, identity
from mixgan_cli.sweeps.sweep import Job, Sweep

FIRST = ("data", "model", "model.k", "model.beta", "seed")
"""What is told of runs before anything else in which they differ."""


def gather(paths: Sequence[Path]) -> list[Job]:
    """Return the jobs of sweeps, and a job for each run that was not part of one, in the order of the paths.

    A path is a run's folder, a sweep's, or one that holds runs.

    Raises:
        RunError: there is nothing of that kind.
    """
    of_sweeps: list[Job] = []
    runs: list[Path] = []
    for path in paths:
        if (path / "jobs").is_dir():
            of_sweeps += [_here(job, path) for job in Sweep(path, None, 1, False, None, ()).jobs()]
        elif (path / "config.yaml").is_file():
            runs.append(path)
        else:
            within = sorted(config.parent for config in path.glob("*/config.yaml"))
            if not within:
                raise RunError(_not_there(path))
            runs += within
    known = {Path(job.run_dir).resolve() for job in of_sweeps if job.run_dir}
    return of_sweeps + as_jobs([run for run in runs if run.resolve() not in known])


def as_jobs(runs: Sequence[Path]) -> list[Job]:
    """Return a job for each run, with the fewest values that tell apart all that differ in more than their seeds."""
    described = [describe(RunFolder(run).read_config()) for run in runs]
    keys = [key for key in FIRST if key in ("data", "model") or len({d.get(key) for d in described}) > 1]
    others = sorted({key for one in described for key in one} - set(FIRST))
    for key in others:
        settled: dict[tuple[Any, ...], Any] = {}
        for one in described:
            values = tuple(one.get(known) for known in keys if known != "seed")
            if settled.setdefault(values, one.get(key)) != one.get(key):
                keys.append(key)
                break
    jobs = []
    for number, (run, one) in enumerate(zip(runs, described, strict=True)):
        folder, failed = RunFolder(run), run / "FAILED"
        error = failed.read_text(encoding="utf-8", errors="replace") if failed.is_file() else None
        job = Job(tuple(f"{key}={one.get(key)}" for key in keys), number, "begun", run_dir=str(run))
        if folder.done:
            job = replace(job, status="done", exit_code=0)
        elif error:
            job = replace(job, status="failed", error=error)
        jobs.append(job)
    return jobs


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run is, flat: its identity, and data and model by the names one would choose them by."""
    told = {
        key: json.dumps(value) if isinstance(value, (list, dict)) else value
        for key, value in identity(config).items()
        if not key.startswith("evaluation.")  # protocols are told apart by themselves
    }
    told |= {"data": name_of_data(config["data"]), "model": config["model"]["name"]}
    return told


def _not_there(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such folder"
    above = next((folder for folder in path.resolve().parents if (folder / "config.yaml").is_file()), None)
    hint = f". The run is {above}" if above else ""
    return f"{path}: neither a run's folder, nor a sweep's, nor one that holds runs{hint}"


def _here(job: Job, sweep: Path) -> Job:
    """A job whose run's folder is found also where the command is given from another folder than the sweep was."""
    if job.run_dir and not Path(job.run_dir).is_dir():
        beside = sweep.resolve().parents[1] / Path(job.run_dir).name
        if beside.is_dir():
            return replace(job, run_dir=str(beside))
    return job
