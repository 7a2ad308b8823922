"""A sweep and its jobs, which may run in other processes or on other machines: all they share is the sweep's folder.

jobs/ID.json is what became of a job, ID a hash of its overrides; so the same sweep again writes the same files.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from mixgan_cli.errors import ConfigError
from mixgan_cli.runs import RunFolder, tells
from mixgan_cli.runtime.io import write_errors, write_json
from mixgan_cli.runtime.signals import end_with_parent, save_before_requeue
from mixgan_cli.sweeps import gpus

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code with its result, or with what it said of its error."""

    code: int
    result: dict[str, Any] | None = None
    error: str | None = None
    run_dir: str | None = None


@dataclass(frozen=True)
class Job:
    """What became of a job."""

    overrides: Overrides
    number: int
    status: Literal["planned", "begun", "done", "failed"] = "planned"
    exit_code: int | None = None
    error: str | None = None
    run_dir: str | None = None
    gpus: tuple[str, ...] = ()
    """Those its sweep gave it, where it did."""

    @property
    def id(self) -> str:
        """8 hexadecimal digits that stand for what changes its result."""
        return hash_of(word for word in self.overrides if tells(_key(word)))

    @property
    def values(self) -> dict[str, str]:
        """Its overrides, by key."""
        return {_key(word): word.partition("=")[2] for word in self.overrides}

    @property
    def state(self) -> Literal["done", "failed", "missing"]:
        """What there is of it: missing is also one that was stopped half-way, or whose run is gone."""
        if self.status == "done" and self.run_dir and self.run.results.is_file():
            return "done"
        return "failed" if self.status == "failed" else "missing"

    @property
    def error_line(self) -> str | None:
        """The error in one line: of a traceback, the last one."""
        lines = (self.error or "").strip().splitlines()
        return lines[-1 if lines[0].startswith("Traceback") else 0] if lines else None

    @property
    def run(self) -> RunFolder:
        """Its run's folder, where it has one."""
        return RunFolder(Path(self.run_dir or ""))


@dataclass(frozen=True)
class Sweep:
    """A sweep, as its jobs know it, wherever they run."""

    folder: Path
    planned: tuple[Overrides, ...] | None
    """The overrides of each job; None where a search chooses them on the way."""
    at_once: int
    fail_fast: bool
    optimize: str | None
    gpus: tuple[str, ...]
    """Of the machine it was started on, to be shared among its jobs there."""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def begin(self) -> None:
        """Forget that an earlier try was stopped."""
        self._stopped.unlink(missing_ok=True)

    def run(self, config: DictConfig, work: Callable[[], Outcome]) -> Outcome | None:
        """Do a job's work and keep what became of it; or return None where the sweep has been stopped."""
        if self.fail_fast and self._stopped.exists():
            return None
        hydra = HydraConfig.get()
        with self._guard():
            begun = Job(tuple(hydra.overrides.task), hydra.job.num, "begun", gpus=self._share(config))
            self._keep(begun)  # if it is killed, this stays
            outcome = work()
            run_dir = outcome.result["run_dir"] if outcome.result else outcome.run_dir
            ended = replace(begun, exit_code=outcome.code, error=outcome.error, run_dir=run_dir)
            self._keep(replace(ended, status="failed" if outcome.code else "done"))
        if outcome.code and self.fail_fast:
            self._stopped.touch()
        return outcome

    def optimized(self, metrics: Mapping[str, Any]) -> float | None:
        """Return the metric that a search goes by; None where all jobs are planned.

        Raises:
            ConfigError: this run has no such metric.
        """
        if self.planned is not None or self.optimize is None:
            return None
        scalars = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
        if self.optimize not in scalars:
            has = ", ".join(sorted(scalars))
            raise ConfigError(f"sweep.optimize={self.optimize}: this run has no such metric. It has {has}")
        return scalars[self.optimize]

    def jobs(self) -> list[Job]:
        """Return what became of each job: of those planned, or of all that left something here."""
        kept = [json.loads(path.read_text(encoding="utf-8")) for path in self._jobs.glob("[!.]*.json")]
        left = [Job(**{**job, "overrides": tuple(job["overrides"]), "gpus": tuple(job["gpus"])}) for job in kept]
        if self.planned is None:
            return sorted(left, key=lambda job: job.number)
        jobs = {job.id: job for job in (Job(overrides, number) for number, overrides in enumerate(self.planned))}
        jobs |= {job.id: job for job in left if job.id in jobs}
        return list(jobs.values())

    @property
    def _jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def _stopped(self) -> Path:
        return self.folder / "STOPPED"

    def _keep(self, job: Job) -> None:
        with write_errors(f"hydra.sweep.dir: {self.folder}"):
            write_json(self._jobs / f"{job.id}.json", asdict(job))

    def _guard(self) -> AbstractContextManager[None]:
        """What a signal, or the end of the sweep's own process, means to a job."""
        if "SUBMITIT_EXECUTOR" in os.environ:  # its jobs are meant to outlive the sweep's process
            return save_before_requeue()
        return end_with_parent(self.pid) if self._beside else nullcontext()

    @property
    def _beside(self) -> bool:
        """Whether this is a process that a launcher started on the sweep's own machine."""
        return os.getpid() != self.pid and socket.gethostname() == self.host

    def _share(self, config: DictConfig) -> tuple[str, ...]:
        """Take this process's share of the machine: threads, and one GPU or as many as the run has devices."""
        if not self._beside or os.environ.get("SUBMITIT_EXECUTOR") == "slurm":  # SLURM sees to it
            return ()
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.at_once)))
        if not self.gpus:
            return ()
        devices = OmegaConf.select(config, "hardware.devices")
        return gpus.take(self.gpus, self.folder / ".gpus" / self.host, devices if isinstance(devices, int) else 1)


def hash_of(words: Iterable[str]) -> str:
    """Return 8 hexadecimal digits that stand for these words, in whatever order."""
    return hashlib.sha256("\n".join(sorted(words)).encode()).hexdigest()[:8]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
