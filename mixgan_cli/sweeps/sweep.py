"""A sweep and its jobs. They may run in other processes or on other machines, and share only the sweep's folder.

jobs/ID.json records a job. ID is a hash of its overrides, so the same sweep writes the same files again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter

from mixgan_cli.config.identity import affects_result
from mixgan_cli.errors import ConfigError, RunError
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import write_errors, write_json
from mixgan_cli.runtime.outputs import check_folder
from mixgan_cli.runtime.reading import read_errors, read_json
from mixgan_cli.runtime.signals import end_with_parent, save_before_requeue
from mixgan_cli.sweeps import gpus

log = logging.getLogger("mixgan")

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code with the result or the error message."""

    code: int
    result: dict[str, Any] | None = None
    error: str | None = None
    run_dir: str | None = None


@dataclass(frozen=True)
class Job:
    """The record of a job."""

    overrides: Overrides
    number: int
    status: Literal["planned", "begun", "done", "failed"] = "planned"
    exit_code: int | None = None
    error: str | None = None
    run_dir: str | None = None
    gpus: tuple[str, ...] = ()
    """The GPUs that its sweep claimed for it, if any."""
    stops: bool = False
    """See `Sweep`."""

    @property
    def id(self) -> str:
        """A hash of the overrides that affect the result, 8 hexadecimal digits."""
        return overrides_hash(word for word in self.overrides if affects_result(_key(word), self.stops))

    @property
    def values(self) -> dict[str, str]:
        """Its overrides by key."""
        return {_key(word): word.partition("=")[2] for word in self.overrides}

    @property
    def state(self) -> Literal["done", "failed", "missing"]:
        """Whether there is a result. A job that was stopped, or whose run was deleted, is missing."""
        if self.status == "done" and self.run_dir and self.run.results.is_file():
            return "done"
        return "failed" if self.status == "failed" else "missing"

    @property
    def error_line(self) -> str | None:
        """The error in one line, which is the last one of a traceback."""
        lines = (self.error or "").strip().splitlines()
        return lines[-1 if lines[0].startswith("Traceback") else 0] if lines else None

    @property
    def run(self) -> RunFolder:
        """Its run's folder. Without a run, this is the current folder."""
        return RunFolder(Path(self.run_dir or ""))


TABLES = ("jobs.csv", "table.csv")
"""Files that are written at the end of a sweep."""
RECORD = TypeAdapter(Job)
"""Checks the types of a record that is read."""
WRITE_AGAIN = "Delete it, and repeat the sweep, which writes it again"


@dataclass(frozen=True)
class Sweep:
    """A sweep, as it is sent to its jobs."""

    folder: Path
    planned: tuple[Overrides, ...] | None
    """The overrides of each job; None if a search chooses them during the sweep."""
    concurrent_jobs: int
    fail_fast: bool
    optimize: str | None
    gpus: tuple[str, ...]
    """The GPUs of the machine the sweep was started on, shared among its jobs there."""
    stops: bool = False
    """If true, an alarm may end some of the runs (`alarms.stop`)."""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def begin(self) -> None:
        """Check the folder before the first job, and allow jobs even if `fail_fast` stopped an earlier attempt.

        Raises:
            RunError: the folder has no name of its own, is a file or device, or has tables of something else.
        """
        check_folder(self.folder, "hydra.sweep.dir")
        tables = [name for name in TABLES if (self.folder / name).is_file()]
        if tables and not self._jobs.is_dir():
            raise RunError(
                f"hydra.sweep.dir={self.folder}: {', '.join(tables)} would be replaced, but there is no jobs/, so this "
                "is not a sweep's folder. Give another one, or sweep.name"
            )
        self._stopped.unlink(missing_ok=True)

    def run(self, config: DictConfig, work: Callable[[], Outcome]) -> Outcome | None:
        """Run a job and record how it ended, or return None if `fail_fast` has stopped the sweep."""
        if self.fail_fast and self._stopped.exists():
            return None
        hydra = HydraConfig.get()
        with self._guard():
            begun = Job(
                tuple(hydra.overrides.task),
                hydra.job.num,
                "begun",
                gpus=self._claim_resources(config),
                stops=self.stops,
            )
            self._write(begun)  # remains if the process is killed
            log.info("%s", self._title(begun))
            outcome = work()
            run_dir = outcome.result["run_dir"] if outcome.result else outcome.run_dir
            ended = replace(begun, exit_code=outcome.code, error=outcome.error, run_dir=run_dir)
            self._write(replace(ended, status="failed" if outcome.code else "done"))
        if outcome.code and self.fail_fast:
            self._stopped.touch()
        return outcome

    def objective_value(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the metric that a search optimises, or None if all jobs are planned.

        Raises:
            ConfigError: the run has no such metric.
        """
        if self.planned is not None or self.optimize is None:
            return None
        scalars = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
        if self.optimize not in scalars:
            known = ", ".join(sorted(scalars))
            raise ConfigError(f"sweep.optimize={self.optimize}: this run has no such metric. It has {known}")
        return scalars[self.optimize]

    def jobs(self) -> list[Job]:
        """Return the record of each planned job, or all records in the folder if a search chose the jobs.

        Raises:
            RunError: a record is damaged.
        """
        found = []
        for path in self._jobs.glob("[!.]*.json"):
            with read_errors(path, WRITE_AGAIN):
                found.append(RECORD.validate_python(read_json(path, self._jobs, WRITE_AGAIN)))
        if self.planned is None:
            return sorted(found, key=lambda job: job.number)
        jobs = {
            job.id: job for job in (Job(each, number, stops=self.stops) for number, each in enumerate(self.planned))
        }
        jobs |= {job.id: job for job in found if job.id in jobs}
        return list(jobs.values())

    def _title(self, job: Job) -> str:
        """Return what a job is called in the log: job 3 of 9: model.beta=1 model.k=2."""
        everywhere = set.intersection(*map(set, self.planned)) if self.planned else set()
        words = " ".join(word for word in job.overrides if word not in everywhere)
        return f"job {job.number + 1}{f' of {len(self.planned)}' if self.planned else ''}: {words}"

    @property
    def _jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def _stopped(self) -> Path:
        return self.folder / "STOPPED"

    def _write(self, job: Job) -> None:
        with write_errors(f"hydra.sweep.dir: {self.folder}"):
            write_json(self._jobs / f"{job.id}.json", asdict(job))

    def _guard(self) -> AbstractContextManager[None]:
        """Return a context that handles the signals of a job, and the end of the sweep's own process."""
        if "SUBMITIT_EXECUTOR" in os.environ:  # jobs outlive the sweep's process
            return save_before_requeue()
        return end_with_parent(self.pid) if self._is_local_worker else nullcontext()

    @property
    def _is_local_worker(self) -> bool:
        """True if a launcher started this process on the sweep's own machine."""
        return os.getpid() != self.pid and socket.gethostname() == self.host

    def _claim_resources(self, config: DictConfig) -> tuple[str, ...]:
        """Limit this process to its share of threads, and claim as many GPUs as the run has devices."""
        if not self._is_local_worker or os.environ.get("SUBMITIT_EXECUTOR") == "slurm":  # SLURM assigns them
            return ()
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.concurrent_jobs)))
        if not self.gpus:
            return ()
        devices = OmegaConf.select(config, "hardware.devices")
        return gpus.claim(self.gpus, self.folder / ".gpus" / self.host, devices if isinstance(devices, int) else 1)


def overrides_hash(words: Iterable[str]) -> str:
    """Return a hash of overrides in any order, 8 hexadecimal digits."""
    return hashlib.sha256("\n".join(sorted(words)).encode(errors="surrogateescape")).hexdigest()[:8]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
