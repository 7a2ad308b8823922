"""The table of a sweep: one row a configuration apart from the seed, mean ± standard deviation over its seeds.

Numbers of different protocols are never averaged together: each protocol has a number, and rows of its own.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mixgan_cli.evaluation.metrics.registry import is_value
from mixgan_cli.reporting.tables import mean_and_sd, to_csv
from mixgan_cli.reporting.written import read_results
from mixgan_cli.runtime.io import write_text
from mixgan_cli.sweeps.sweep import Job

Row = dict[str, Any]
Differences = Callable[[Mapping[str, Any], Mapping[str, Any]], list[str]]


@dataclass(frozen=True)
class Entry:
    """A job, and what was measured of it by which protocol; nothing where it is not done."""

    job: Job
    protocol: int | None
    metrics: Mapping[str, float]


class Table:
    """What the jobs of a sweep gave.

    Args:
        jobs: all of them, done or not.
        differences: returns a line for each point in which two protocols differ.
    """

    def __init__(self, jobs: Sequence[Job], differences: Differences) -> None:
        keys = dict.fromkeys(key for job in jobs for key in job.values)
        self.keys = [key for key in keys if len({job.values.get(key) for job in jobs}) > 1]
        """What varies from job to job."""
        self.protocols: list[Mapping[str, Any]] = []
        self.differences = differences
        self.follows_the_seed = False
        """Whether seeds also decide which images are held out."""
        self.entries = [self._entry(job) for job in jobs]
        self.metrics = list(dict.fromkeys(name for entry in self.entries for name in entry.metrics))

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs are done, how many failed, and how many are not that far."""
        return _counts([entry.job for entry in self.entries])

    def write(self, folder: Path) -> Path:
        """Write jobs.csv and table.csv, and return the latter."""
        write_text(folder / "jobs.csv", to_csv(self.by_job()))
        write_text(folder / "table.csv", to_csv(self.by_configuration()))
        return folder / "table.csv"

    def by_job(self) -> list[Row]:
        """Return a row a job: what varies, what became of it, and its metrics."""
        return [
            {
                **{key: entry.job.values.get(key) for key in self.keys},
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
        """Return a row a configuration and protocol.

        METRIC is the mean over seeds, METRIC_sd their deviation as a sample (n - 1; of one seed there is none), and
        METRIC_n how many seeds have this metric.
        """
        return [row for row, _ in self.grouped()]

    def grouped(self) -> list[tuple[Row, list[Entry]]]:
        """Return the rows of `by_configuration`, each with what was measured for it."""
        groups: dict[tuple[str | None, ...], list[Entry]] = {}
        keys = [key for key in self.keys if key != "seed"]
        for entry in self.entries:
            groups.setdefault(tuple(entry.job.values.get(key) for key in keys), []).append(entry)
        rows = []
        for values, group in groups.items():
            rest = [entry.job for entry in group if entry.protocol is None]  # told once, in the group's first row
            for protocol in sorted({entry.protocol for entry in group if entry.protocol}) or (None,):
                measured = _newest_of_each_seed([e for e in group if protocol and e.protocol == protocol])
                counts = _counts([*(entry.job for entry in measured), *rest])
                row = {**dict(zip(keys, values, strict=True)), **counts, "protocol": protocol}
                rows.append(({**row, **self._over_seeds(measured)}, measured))
                rest = []
        return rows

    def shown(self) -> list[Row]:
        """Return the rows of `by_configuration` as people read them, mean ± deviation in one cell."""
        rows = []
        for row in self.by_configuration():
            shown = {key: value for key, value in row.items() if key in self.keys or key in self.counts}
            if len(self.protocols) > 1:
                shown["protocol"] = row["protocol"]
            rows.append(shown | {name: _told(row, name) for name in self.main_metrics})
        return rows

    @property
    def main_metrics(self) -> list[str]:
        """The metrics that the terminal shows. table.csv also has those that accompany another."""
        return [name for name in self.metrics if is_value(name)]

    def remarks(self) -> list[str]:
        """Return what failed, and in what protocols differ, a line each."""
        lines = ["Which images are held out follows the seed."] if self.follows_the_seed else []
        again = len([entry for entry in self.entries if entry.protocol]) - sum(len(of) for _, of in self.grouped())
        if again:
            lines.append(f"{again} runs are left out of the means: a newer one has their configuration and seed.")
        for entry in self.entries:
            if entry.job.state == "failed":
                values = [f"{key}={entry.job.values.get(key)}" for key in self.keys]
                lines.append(f"{' '.join(values)} failed: {entry.job.error_line}")
        for number, protocol in enumerate(self.protocols[1:], start=2):
            different = "; ".join(self.differences(self.protocols[0], protocol))
            lines.append(f"protocols 1 and {number} are not comparable: {different}")
        return lines

    def text(self) -> str:
        """Return the table as people read it; below, what failed and in what protocols differ."""
        width = shutil.get_terminal_size((120, 24)).columns
        return "\n".join([*_aligned(self.shown(), width), *self.remarks()])

    def _entry(self, job: Job) -> Entry:
        if job.state != "done":
            return Entry(job, None, {})
        results = read_results(job.run)
        scalars = {name: value for name, value in results.metrics.items() if isinstance(value, (int, float))}
        protocol = self._apart_from_the_seed(job, results.protocol)
        for number, known in enumerate(self.protocols, start=1):
            if not self.differences(known, protocol):
                return Entry(job, number, scalars)
        self.protocols.append(protocol)
        return Entry(job, len(self.protocols), scalars)

    def _apart_from_the_seed(self, job: Job, protocol: Mapping[str, Any]) -> Mapping[str, Any]:
        """The protocol without the checksums of images that the run's own seed holds out, as the HMoG author's does."""
        config = job.run.read_config() if job.run.config.is_file() else {}
        split, reals = (config.get("data") or {}).get("split_seed"), protocol.get("reals")
        if split is None or split != config.get("seed") or not isinstance(reals, dict):
            return protocol
        self.follows_the_seed = True
        kept = {
            name: {key: value for key, value in part.items() if key != "checksum"} if isinstance(part, dict) else part
            for name, part in reals.items()
        }
        return {**protocol, "reals": {**kept, "held out by": "the run's seed"}}

    def _over_seeds(self, entries: Sequence[Entry]) -> Row:
        row: Row = {}
        for name in self.metrics:
            if name.endswith("_sd") and name.removesuffix("_sd") in self.metrics:
                continue  # a run's own, over its draws of latents
            values = [entry.metrics[name] for entry in entries if name in entry.metrics]
            row[name] = fmean(values) if values else None
            row[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
            row[f"{name}_n"] = len(values)
        return row


def _newest_of_each_seed(entries: Sequence[Entry]) -> list[Entry]:
    """A run that was begun anew (force=true) is no other seed."""
    by_age = sorted(entries, key=lambda entry: entry.job.run.results.stat().st_mtime)
    newest = {entry.job.values.get("seed"): entry for entry in by_age}
    return [entry for entry in entries if newest[entry.job.values.get("seed")] is entry]


def _counts(jobs: Sequence[Job]) -> dict[str, int]:
    counts = Counter(job.state for job in jobs)
    return {state: counts[state] for state in ("done", "failed", "missing")}


def _told(row: Row, name: str) -> str:
    told, n = mean_and_sd(row[name], row[f"{name}_sd"]), row[f"{name}_n"]
    return told if n in (0, row["done"]) else f"{told} (n={n})"


def _aligned(rows: Sequence[Row], width: int) -> list[str]:
    """The rows in columns; of those that do not fit into `width` only how many they are."""
    columns = [[name, *("" if row[name] is None else str(row[name]) for row in rows)] for name in rows[0]]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    fitting, used = 0, 0
    for column in padded:
        used += len(column[0]) + 2
        fitting += used <= width
    lines = ["  ".join(cells).rstrip() for cells in zip(*padded[:fitting], strict=True)]
    return lines if fitting == len(padded) else [*lines, f"({len(padded) - fitting} more columns in table.csv)"]
