"""Find runs and read what they left in their folders, with care: a folder may come from anyone, or be incomplete."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from mixgan_cli.config.identity import ADDED, configuration_hash, identity
from mixgan_cli.errors import RunError, UserError
from mixgan_cli.runs import METRIC_NAME, Results, RunFolder
from mixgan_cli.runtime.reading import inside, read_bytes, read_errors, read_text, real_path
from mixgan_cli.sweeps.sweep import Job, Sweep
from mixgan_cli.tracking.jsonl import read_records

FIRST_KEYS = ("data", "model", "model.k", "model.beta", "seed")
"""Keys that come first in the description of a run."""
NOT_CURVES = ("step", "nimg", "seconds", "img_per_second", "skipped")
"""Keys of metrics.jsonl that are not drawn."""
MAX_POINTS, MAX_CURVES = 2**22, 2**10
"""Most numbers of a metrics.jsonl that are read, over all curves, and most curves."""
MAX_PIXELS = 2**24
"""Most pixels of a picture that is read."""

Curves = dict[str, list[tuple[float, float]]]
"""(images shown, value) pairs by name, in order."""


def find_runs(paths: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """Return the jobs of sweeps and a job for every other run, in the order of the paths, and remarks.

    A path is the folder of a run, of a sweep, or one that holds runs; each run counts once. If there are several runs,
    those that cannot be read are left out and named in the remarks.

    Raises:
        RunError: there are no runs, or the only run cannot be read.
    """
    sweep_jobs: list[Job] = []
    runs: list[Path] = []
    for path in paths:
        if (path / "jobs").is_dir():
            with read_errors(path / "jobs"):
                sweep_jobs += [_relocated(job, path) for job in Sweep(path, None, 1, False, None, ()).jobs()]
        elif (path / "config.yaml").is_file():
            runs.append(path)
        else:
            within = sorted(config.parent for config in path.glob("*/config.yaml"))
            if not within:
                raise RunError(_no_runs(path))
            runs += within
    once = {real_path(Path(job.run_dir)) if job.run_dir else job.overrides: job for job in sweep_jobs}
    others = [run for run in {real_path(path): path for path in runs}.values() if real_path(run) not in once]
    jobs, remarks = _as_jobs(others)
    return [*once.values(), *jobs], remarks


def read_results(folder: RunFolder) -> Results:
    """Return what a run measured, empty if it has no results yet.

    Raises:
        RunError: results.json is damaged.
    """
    return folder.read_results() if folder.results.is_file() else Results()


def read_curves(log: Path) -> Curves:
    """Return every number of a run's metrics.jsonl; a list becomes NAME/0, NAME/1, ….

    If an evaluation, or one with another protocol, reports a name that is taken, its curve is called NAME (PROTOCOL).
    Damaged lines are left out, and what follows MAX_POINTS numbers or is beyond MAX_CURVES.

    Raises:
        RunError: the log is a link out of its folder, or too large.
    """
    if not log.is_file():
        return {}
    with read_errors(log):
        return _read_curves(read_records(inside(log, log.parent)))


def _read_curves(records: Iterable[tuple[str, Mapping[str, Any]]]) -> Curves:
    curves: Curves = defaultdict(list)
    first_protocol: dict[str, str | None] = {}
    """The protocol that first reported a name; None for training itself."""
    points = 0
    for _, record in records:
        nimg, protocol = float(record["nimg"]), record.get("protocol")
        for name, value in record.items():
            if name in NOT_CURVES or not METRIC_NAME.fullmatch(name.replace("/", "_")):
                continue
            if first_protocol.setdefault(name, protocol) != protocol:
                name = f"{name} ({protocol})"
            for key, number in _scalars(name, value):
                points += 1
                if key in curves or len(curves) < MAX_CURVES:
                    curves[key].append((nimg, number))
        if points > MAX_POINTS:
            break
    return curves


def read_png(path: Path, folder: Path) -> bytes | None:
    """Return a picture in a folder, or None if there is no such file or it is not a PNG.

    Raises:
        RunError: see `read_bytes`.
    """
    content = read_bytes(path, folder) if path.is_file() else b""
    return content if content.startswith(b"\x89PNG") else None


def open_png(content: bytes) -> Image.Image | None:
    """Return the picture in a PNG, RGB or RGBA; None if it is damaged, or has more than MAX_PIXELS pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return image.convert("RGBA" if "A" in image.getbands() else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # whatever its author wrote
        return None


def sample_pictures(folder: RunFolder) -> list[Path]:
    """Return the pictures of a run's samples, the oldest first."""
    return sorted(path for path in folder.samples.glob("[0-9]*.png") if path.stem.isdecimal())


def _as_jobs(runs: Sequence[Path]) -> tuple[list[Job], list[str]]:
    """Return a job for each run, and remarks.

    The values of a job are the keys in which runs differ that share data set, model, K, beta and the choices of groups;
    seeds and the choices that differ come with them. So objective=hinge stands for the keys that this choice sets.
    """
    configs, errors, described, remarks = {}, {}, {}, []
    data_names: dict[str, str] = {}
    """The name of each data set by its content."""
    choices: dict[str, dict[str, str]] = {}
    """The choices of each configuration, by its hash: the same one may have been given key by key."""
    for run in runs:
        try:
            with read_errors(run):
                configs[run] = RunFolder(run).read_config()
                failed = run / "FAILED"
                errors[run] = read_text(failed, run) if failed.is_file() else None
                described[run], of_hash = _describe(configs[run]), configuration_hash(configs[run])
                content = _checksums(read_results(RunFolder(run)))
                if content:  # a set that was moved or renamed keeps the name of the first run
                    described[run]["data"] = data_names.setdefault(content, described[run]["data"])
                choices[of_hash] = choices.get(of_hash) or _choices(configs[run])
        except UserError as error:
            if len(runs) == 1:
                raise
            described.pop(run, None)  # its results may be what cannot be read
            remarks.append(f"left out: {error}")
    added = {key: as_text(ADDED[key]) for values in described.values() for key in values.keys() & ADDED.keys()}
    described = {run: added | values for run, values in described.items()}  # older runs lack them
    seeded = seeded_splits([configs[run] for run in described])
    for values in described.values():
        if values["data"] in seeded:
            values.pop("data.split_seed", None)
    for run, values in described.items():
        values.update(choices[configuration_hash(configs[run])])
    keys = _differing_keys(list(described.values()), {group for made in choices.values() for group in made})
    jobs = [_job(number, run, values, keys, errors[run]) for number, (run, values) in enumerate(described.items())]
    return jobs, remarks


def _differing_keys(described: Sequence[Mapping[str, Any]], groups: Collection[str]) -> list[str]:
    """Return the keys and groups that describe the runs, see `_as_jobs`."""
    keys = [key for key in FIRST_KEYS if key in ("data", "model") or _differ(described, key)]
    shared = [key for key in FIRST_KEYS if key != "seed"]
    for group in sorted(groups):  # objective comes before objective/optimizer, which follows from it
        if any(_differ(runs, group) for runs in _alike(described, shared)):
            keys.append(group)
            shared.append(group)
    others = dict.fromkeys(key for values in described for key in values if key not in (*FIRST_KEYS, *groups))
    alike = _alike(described, shared)
    return keys + [key for key in others if any(_differ(runs, key) for runs in alike)]


def _alike(described: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[list[Mapping[str, Any]]]:
    """Return the runs in groups that have equal values of these keys."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for values in described:
        groups.setdefault(tuple(values.get(key) for key in keys), []).append(values)
    return list(groups.values())


def _differ(described: Iterable[Mapping[str, Any]], key: str) -> bool:
    """Return whether runs have several values of a key."""
    return len({values.get(key) for values in described}) > 1


def _job(number: int, run: Path, values: Mapping[str, Any], keys: Sequence[str], error: str | None) -> Job:
    """Return a job for a run with the content of its FAILED, if it has one."""
    job = Job(tuple(f"{key}={values[key]}" for key in keys if key in values), number, "begun", run_dir=str(run))
    if RunFolder(run).done:
        return replace(job, status="done", exit_code=0)
    return job if error is None else replace(job, status="failed", error=error)


def seeded_splits(configs: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of data sets whose held-out images follow the seed of the run, which needs runs of two seeds.

    In a run with seed 0, a fixed split with seed 0 looks the same.
    """
    splits: dict[str, set[tuple[str, str]]] = {}
    for config in configs:
        data = config.get("data") or {}
        splits.setdefault(str(data.get("name")), set()).add((str(data.get("split_seed")), str(config.get("seed"))))
    return {name for name, pairs in splits.items() if len(pairs) > 1 and all(split == seed for split, seed in pairs)}


def _describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's identity as text, with data set and model by the names of their choices.

    Left out are the place of the data, and the evaluation, which has its protocol.
    """
    values = {
        key: as_text(value)
        for key, value in identity(config).items()
        if not key.startswith("evaluation.") and key not in ("data.name", "data.root")
    }
    return values | {"data": str(config["data"]["name"]), "model": str(config["model"]["name"])}


def _checksums(results: Results) -> str | None:
    """Return the checksums of the images that a run was trained on and evaluated with; None if it has none."""
    reals = results.protocol.get("reals")
    parts = reals.values() if isinstance(reals, Mapping) else []
    found = [part["checksum"] for part in parts if isinstance(part, Mapping) and "checksum" in part]
    return json.dumps(found) if found else None


def as_text(value: Any) -> str:
    """Return the value of a key as the command line has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _choices(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the choices of groups that a run was given; none if it is older than this record."""
    made = dict(config.get("choices") or {})
    return {str(group)[:100]: str(choice)[:100] for group, choice in made.items() if group not in FIRST_KEYS}


def _no_runs(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such folder"
    above = next((folder for folder in real_path(path).parents if (folder / "config.yaml").is_file()), None)
    hint = f". The run is {above}" if above else ""
    return f"{path}: neither the folder of a run, nor of a sweep, nor one that holds runs{hint}"


def _relocated(job: Job, sweep: Path) -> Job:
    """Return a job with the present path of its run, if the sweep and its runs were moved together."""
    if not job.run_dir or Path(job.run_dir).is_dir():
        return job
    name = Path(job.run_dir).name
    found = next((above / name for above in real_path(sweep).parents if (above / name / "config.yaml").is_file()), None)
    return replace(job, run_dir=str(found)) if found else job


def _scalars(name: str, value: Any) -> list[tuple[str, float]]:
    """Return a number as one curve and a list as several; a table, such as experts by classes, has no curve."""
    named = (
        [(f"{name}/{number}", part) for number, part in enumerate(value)]
        if isinstance(value, list)
        else [(name, value)]
    )
    numbers = [(key, part) for key, part in named if isinstance(part, (int, float)) and not isinstance(part, bool)]
    return [(key, float(part)) for key, part in numbers if abs(part) < 1e300]
