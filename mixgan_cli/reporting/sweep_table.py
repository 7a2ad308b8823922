"""The table of a sweep: a row for each configuration, with mean ± standard deviation over its seeds.

Values of different protocols are never averaged together: each protocol has a number, and rows of its own.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mixgan_cli.config.identity import configuration_hash
from mixgan_cli.errors import UserError
from mixgan_cli.evaluation.metrics.registry import is_value
from mixgan_cli.evaluation.protocol import differences
from mixgan_cli.evaluation.ranking import ranked
from mixgan_cli.reporting.read_run import read_results, seeded_splits
from mixgan_cli.reporting.tables import align, mean_and_sd, to_csv
from mixgan_cli.runtime.io import write_text
from mixgan_cli.runtime.reading import read_errors
from mixgan_cli.sweeps.sweep import Job

Row = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A job with its metrics and the number of their protocol; without them if the job is not done."""

    job: Job
    protocol: int | None
    metrics: Mapping[str, float]
    hash: str | None = None
    """The hash of its configuration, which it shares with the other seeds; None if its run has not begun."""
    name: str | None = None
    """The name that the user gave the run."""
    seed: str | None = None
    k: str | None = None
    """The number of experts; None if neither the configuration nor the job names it."""


class SweepTable:
    """The results of the jobs of a sweep.

    Args:
        jobs: all jobs, done or not.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        keys = dict.fromkeys(key for job in jobs for key in job.values)
        self.keys = [key for key in keys if len({job.values.get(key) for job in jobs}) > 1]
        """The keys that vary between jobs."""
        self.protocols: list[Mapping[str, Any]] = []
        self._configs = {job.run_dir: _config_of(job) for job in jobs}
        self.seeded_splits = seeded_splits([self._configs[job.run_dir] for job in jobs if job.state == "done"])
        """Names of the data sets of which the seed also determines which images are held out."""
        self.entries = [self._entry(job) for job in jobs]
        self.metrics = list(dict.fromkeys(name for entry in self.entries for name in entry.metrics))

    @classmethod
    def readable(cls, jobs: Sequence[Job]) -> tuple[SweepTable, list[str]]:
        """Return the table of the jobs whose results can be read, and a remark for each of the others.

        Raises:
            UserError: the results of the only job cannot be read.
        """
        found, remarks = [], []
        for job in jobs:
            try:
                cls([job])
                found.append(job)
            except UserError as error:
                if len(jobs) == 1:
                    raise
                remarks.append(f"left out: {error}")
        return cls(found), remarks

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of jobs that are done, have failed, or are missing."""
        return _counts([entry.job for entry in self.entries])

    def write(self, folder: Path) -> Path:
        """Write jobs.csv and table.csv, and return the path of the latter."""
        write_text(folder / "jobs.csv", to_csv(self.by_job()))
        write_text(folder / "table.csv", to_csv(self.by_configuration()))
        return folder / "table.csv"

    def by_job(self) -> list[Row]:
        """Return a row for each job: the keys that vary, its status and its metrics."""
        return [
            {
                **self.names_of(entry),
                **{key: entry.job.values.get(key) for key in self.keys},
                "hash": entry.hash,
                "status": entry.job.state,
                "exit_code": entry.job.exit_code,
                "error": entry.job.error_line,
                "run_dir": entry.job.run_dir,
                "protocol": entry.protocol,
                **{name: entry.metrics.get(name) for name in self.metrics},
            }
            for entry in self.entries
        ]

    def by_configuration(self) -> list[Row]:
        """Return a row for each configuration and protocol.

        `hash` is that of the configuration, or several of runs that differ only in where their data are. METRIC is the
        mean over seeds, METRIC_sd the sample standard deviation (n - 1; None for one seed), and METRIC_n the number of
        seeds with this metric.
        """
        return [row for row, _ in self.grouped()]

    def grouped(self) -> list[tuple[Row, list[Entry]]]:
        """Return the rows of `by_configuration`, each with its entries."""
        groups: dict[tuple[str | None, ...], list[Entry]] = {}
        keys = [key for key in self.keys if key != "seed"]
        for entry in self.entries:
            groups.setdefault(tuple(entry.job.values.get(key) for key in keys), []).append(entry)
        rows = []
        for values, group in groups.items():
            unmeasured = [entry.job for entry in group if entry.protocol is None]  # counted in the first row only
            for protocol in sorted({entry.protocol for entry in group if entry.protocol}) or (None,):
                measured = _newest_of_each_seed([e for e in group if protocol and e.protocol == protocol])
                counts = _counts([*(entry.job for entry in measured), *unmeasured])
                hashes = dict.fromkeys(entry.hash for entry in measured or group if entry.hash)
                row = {**dict(zip(keys, values, strict=True)), "hash": " ".join(hashes), **counts, "protocol": protocol}
                rows.append(({**row, **self._over_seeds(measured)}, measured))
                unmeasured = []
        return rows

    def formatted(self) -> list[Row]:
        """Return the rows of `by_configuration` for people, with mean ± standard deviation in one cell."""
        rows = []
        for row in self.by_configuration():
            cells = {key: value for key, value in row.items() if key in self.keys or key in self.counts}
            if len(self.protocols) > 1:
                cells["protocol"] = row["protocol"]
            rows.append(cells | {name: _format_mean(row, name) for name in self.main_metrics})
        return rows

    @property
    def main_metrics(self) -> list[str]:
        """The metrics that the terminal shows; table.csv also has those that accompany another metric."""
        return [name for name in self.metrics if is_value(name)]

    def remarks(self) -> list[str]:
        """Return a line for each failed job, and other remarks."""
        lines = ["The seed determines which images are held out."] if self.seeded_splits else []
        measured = [entry for entry in self.entries if entry.protocol]
        older = len(measured) - sum(len(entries) for _, entries in self.grouped())
        if older:
            lines.append(
                f"Runs left out of the means, because a newer run has the same configuration and seed: {older}."
            )
        for entry in self.entries:
            if entry.job.state == "failed":
                values = [f"{key}={entry.job.values.get(key)}" for key in self.keys]
                lines.append(f"{' '.join(values)} failed: {entry.job.error_line}")
        return lines

    def incomparabilities(self) -> list[str]:
        """Return a line for each protocol that differs from the first one."""
        first, *others = self.protocols or [{}]
        return [
            f"protocols 1 and {number} are not comparable: {'; '.join(differences(first, protocol))}"
            for number, protocol in enumerate(others, start=2)
        ]

    def best_first(self) -> list[Entry]:
        """Return the entries that have a run's folder, protocol by protocol, the best first by the ranking metrics.

        A run that lacks a metric which others of its protocol have comes after them.
        """
        with_folder = [entry for entry in self.entries if entry.job.run_dir and entry.job.run.config.is_file()]
        order = {protocol: self.ranking_metrics(protocol) for protocol in {entry.protocol for entry in with_folder}}

        def rank(entry: Entry) -> tuple[Any, ...]:
            values = {name: value for name, _, value in ranked(entry.metrics)}
            ranks = [values.get(name, math.inf) for name in order[entry.protocol]]
            return entry.protocol is None, entry.protocol or 0, ranks

        return sorted(with_folder, key=rank)

    def ranking_metrics(self, protocol: int | None) -> list[str]:
        """Return the metrics by which runs of a protocol are ranked, the most important first."""
        entries = [entry for entry in self.entries if entry.protocol == protocol]
        metrics = {name: value for entry in entries for name, value in entry.metrics.items()}
        return [name for name, _, _ in ranked(metrics)]

    def names_of(self, entry: Entry) -> Row:
        """Return the column with the name that the user gave a run, if any run has one."""
        return {"name": entry.name} if any(each.name for each in self.entries) else {}

    def name_of(self, entry: Entry) -> str:
        """Return the values in which a run differs from the others, after the name that the user gave it.

        A single run without such a name has that of its folder.
        """
        values = {key: entry.job.values.get(key) for key in self.keys}
        parts = [entry.name, *(f"{key}={value}" for key, value in values.items() if value is not None)]
        name = ", ".join(part for part in parts if part)
        return name or entry.job.run.path.name

    def text(self) -> str:
        """Return the formatted table and the remarks as lines that fit the terminal."""
        width = shutil.get_terminal_size((120, 24)).columns
        return "\n".join([*align(self.formatted(), width), *self.remarks(), *self.incomparabilities()])

    def _entry(self, job: Job) -> Entry:
        config = self._configs[job.run_dir]
        with read_errors(job.run.config):
            shared = configuration_hash(config) if config else None
        name = str(config["name"])[:64] if config.get("name") else None
        values = {**job.values, **{key: str(value) for key, value in _seed_and_k(config).items()}}
        own = (shared, name, values.get("seed"), values.get("model.k"))
        if job.state != "done":
            return Entry(job, None, {}, *own)
        results = read_results(job.run)
        scalars = {name: value for name, value in results.metrics.items() if isinstance(value, (int, float))}
        protocol = self._without_seeded_split(job, results.protocol)
        for number, known in enumerate(self.protocols, start=1):
            if not differences(known, protocol):
                return Entry(job, number, scalars, *own)
        self.protocols.append(protocol)
        return Entry(job, len(self.protocols), scalars, *own)

    def _without_seeded_split(self, job: Job, protocol: Mapping[str, Any]) -> Mapping[str, Any]:
        """Remove checksums of images that the run's seed chose to hold out, as the released code of HMoG does."""
        data = self._configs[job.run_dir].get("data") or {}
        reals = protocol.get("reals")
        if str(data.get("name")) not in self.seeded_splits or not isinstance(reals, dict):
            return protocol
        kept = {
            name: {key: value for key, value in part.items() if key != "checksum"} if isinstance(part, dict) else part
            for name, part in reals.items()
        }
        return {**protocol, "reals": {**kept, "held out by": "the run's seed"}}

    def _over_seeds(self, entries: Sequence[Entry]) -> Row:
        row: Row = {}
        for name in self.metrics:
            if name.endswith("_sd") and name.removesuffix("_sd") in self.metrics:
                continue  # the deviation over a run's own draws of latents
            values = [entry.metrics[name] for entry in entries if name in entry.metrics]
            row[name] = fmean(values) if values else None
            row[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
            row[f"{name}_n"] = len(values)
        return row


def _config_of(job: Job) -> Mapping[str, Any]:
    """Return the configuration of a job's run; empty without one, or if it is damaged and the job has no results.

    Raises:
        RunError: it is damaged.
    """
    if not job.run_dir or not job.run.config.is_file():
        return {}
    with suppress(*() if job.state == "done" else (UserError,)):
        return job.run.read_config()
    return {}


def _seed_and_k(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the seed and the number of experts in a configuration, as far as it has them."""
    k = config.get("model", {}).get("k")
    return {key: value for key, value in (("seed", config.get("seed")), ("model.k", k)) if value is not None}


def _newest_of_each_seed(entries: Sequence[Entry]) -> list[Entry]:
    """Return the newest entry of each seed: a repeated run (force=true) does not count as another seed."""
    by_age = sorted(entries, key=lambda entry: entry.job.run.results.stat().st_mtime)
    newest = {entry.job.values.get("seed"): entry for entry in by_age}
    return [entry for entry in entries if newest[entry.job.values.get("seed")] is entry]


def _counts(jobs: Sequence[Job]) -> dict[str, int]:
    counts = Counter(job.state for job in jobs)
    return {state: counts[state] for state in ("done", "failed", "missing")}


def _format_mean(row: Row, name: str) -> str:
    mean, n = mean_and_sd(row[name], row[f"{name}_sd"]), row[f"{name}_n"]
    return mean if n in (0, row["done"]) else f"{mean} (n={n})"
