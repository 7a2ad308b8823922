"""`mixgan evaluate`: metrics of a run, or of a folder, zip or array of images, against a data set or other images.

`compare=` adds the metrics of another result. Results of different protocols are compared only with `force=true`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from mixgan_cli.config.commands import EvaluateCommand
from mixgan_cli.config.components import build
from mixgan_cli.config.parse import parse
from mixgan_cli.data.archives import Archive
from mixgan_cli.data.dataset import Source
from mixgan_cli.data.datasets.arrays import array_images, convert_channels
from mixgan_cli.data.images import Preprocessing, read_images
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import RunError, UserError, error_summary
from mixgan_cli.evaluation.evaluator import Evaluator, Result, check_settings
from mixgan_cli.evaluation.metrics.registry import deviation, is_deviation, result_key
from mixgan_cli.evaluation.protocol import differences, require_comparable
from mixgan_cli.evaluation.reference import ReferenceSet, reference_set
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.tables import MISSING
from mixgan_cli.runs import Results, RunFolder, read_result
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.io import write_json
from mixgan_cli.runtime.outputs import check_output, output_file
from mixgan_cli.runtime.random import permutation
from mixgan_cli.runtime.reading import inside, read_json, real_path
from mixgan_cli.training.restore import restore

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any]:
    """Compute metrics, and return them with their protocol and the unavailable metrics."""
    settings: EvaluateCommand = parse(config, EvaluateCommand)
    check_settings(settings.evaluation)
    if settings.to:  # before the evaluation, which may be long
        check_output(Path(settings.to), _is_result, settings.force)
    compute = resolve_hardware(settings.hardware)
    others = read_results(settings.compare) if settings.compare else []
    result = _of_images(settings, compute) if settings.images else _of_run(settings, compute)
    other = min(others, key=lambda each: len(differences(result.protocol, each.protocol)), default=None)
    comparable = other and (settings.force or not differences(result.protocol, other.protocol))
    log.info("%s", text_of(result, other.metrics if other and comparable else None))
    if settings.run is not None:
        _keep(RunFolder(Path(settings.run)), settings.evaluation.name, result)
    output = {
        **({"run_dir": settings.run} if settings.run else {"images": settings.images} if settings.images else {}),
        "metrics": result.metrics,
        "unavailable": dict(result.unavailable),
        "protocol": dict(result.protocol),
    }
    if settings.to:
        with output_file(Path(settings.to), _is_result, settings.force) as temporary:
            write_json(temporary, output)  # before the comparison, which may be refused
    if other:
        require_comparable(result.protocol, other.protocol, settings.force)
        output["compared"] = {
            "with": settings.compare,
            "metrics": dict(other.metrics),
            "differences": differences(result.protocol, other.protocol),
        }
    return output


def _is_result(path: Path) -> bool:
    """Return whether a file is one that `to=` wrote, and none of a run."""
    try:
        content = read_json(path, path.parent)
    except RunError:
        return False
    written = {"metrics", "unavailable", "protocol"} <= content.keys()
    return written and "run" not in content and ("run_dir" in content or "images" in content)


def read_results(path: str) -> list[Results]:
    """Return metrics and protocols from a run's folder, its results.json, or a file that `to=` wrote.

    A run has several: those of its end, and those of later evaluations.

    Raises:
        RunError: a file has no metrics or no protocol.
    """
    folder, file = RunFolder(Path(path)), real_path(Path(path))
    try:
        if folder.path.is_dir():
            found = [folder.read_results(), *folder.read_evaluations()]
        else:
            found = [read_result(file, file.parent)]
    except RunError as error:
        raise RunError(f"compare={path}: no metrics with their protocol: {error}") from error
    if not all(each.protocol for each in found):
        raise RunError(f"compare={path}: no metrics with their protocol")
    return found


def text_of(result: Result, other: Mapping[str, Any] | None = None) -> str:
    """Return a table for people: each metric, its value, the best value; and the protocol in a line.

    Args:
        result: what was measured.
        other: metrics of the run that it is compared with, which get a column.
    """
    columns = [result.metrics, *([] if other is None else [other])]
    rows = [("metric", *("value", "compared")[: len(columns)], "best")]
    for name, value in result.metrics.items():
        if isinstance(value, int | float) and not is_deviation(name):
            best = result_key(name).best
            rows.append((name, *(_value_text(name, each) for each in columns), "" if best == "none" else best))
    first, *widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = []
    for name, *values, best in rows:
        padded = [f"{value:>{width}}" for value, width in zip(values, widths, strict=True)]
        lines.append("  ".join([f"{name:<{first}}", *padded, best]).rstrip())
    protocol = result.protocol
    extractors = f", {', '.join(protocol['extractors'])}" if protocol.get("extractors") else ""
    lines.append(
        f"protocol {protocol['name']}: {protocol['n_fake']:,} against {protocol['n_real']:,} samples{extractors}"
    )
    return "\n".join([*lines, *(f"{name} is unavailable: {reason}" for name, reason in result.unavailable.items())])


def _value_text(name: str, metrics: Mapping[str, Any]) -> str:
    """Return a metric with its deviation, if it has one; a dash if it is missing or no number."""
    value, spread = metrics.get(name), deviation(name, metrics)
    if not isinstance(value, int | float):
        return MISSING
    return f"{value:.4g}" + (f" ± {spread:.2g}" if isinstance(spread, int | float) else "")


def _keep(folder: RunFolder, name: str, result: Result) -> None:
    """Write a result into the run, one file per protocol and state, and fill in what results.json lacks."""
    content = {"protocol": dict(result.protocol), "metrics": result.metrics, "unavailable": dict(result.unavailable)}
    key = hashlib.sha256(json.dumps(content["protocol"], sort_keys=True).encode()).hexdigest()[:8]
    try:
        if not folder.config.is_file():
            raise RunError("it was deleted or moved")
        write_json(inside(folder.evaluations / f"{name}-{key}.json", folder.path), content)
        _fill(folder, result)
    except (OSError, UserError, LookupError, TypeError, ValueError) as error:  # read-only, or results.json is damaged
        reason = error_summary(error) if isinstance(error, OSError) else error
        log.warning("warning: %s does not keep the evaluation (%s)", folder.path, reason)


def _fill(folder: RunFolder, result: Result) -> None:
    """Add the metrics that were unavailable when the run ended, if state and protocol are the same."""
    if not folder.results.is_file():
        return
    stored = read_json(folder.results, folder.path)
    missing = {name: value for name, value in result.metrics.items() if name not in stored["metrics"]}
    same = all(stored["protocol"][key] == result.protocol[key] for key in ("nimg", "sample_seeds"))
    if not missing or not same or differences(stored["protocol"], result.protocol):
        return
    stored["metrics"] |= missing
    stored["unavailable"] = {name: why for name, why in stored["unavailable"].items() if name not in missing}
    write_json(folder.results, stored)
    log.info("%s: added %s", folder.results, ", ".join(missing))


def _of_run(settings: EvaluateCommand, compute: Compute) -> Result:
    path, config = Path(settings.checkpoint), None
    if settings.run is not None:
        folder = RunFolder(Path(settings.run))
        path, config = folder.find_checkpoint(settings.checkpoint), folder.read_config()
    _, nimg, own_source, networks = restore(path, settings.trusted, settings.evaluation.ema, config)
    for network in networks:
        compute.place(network)
    source: Source = own_source if settings.data is None else build(settings.data)
    reference = _reference(settings, channels=source.shape[0])
    reference = reference or reference_set(source, source.load(), settings.evaluation)
    evaluator = Evaluator(settings.evaluation, reference, compute.device)
    result = evaluator.evaluate(Sampler(networks.generator), networks.discriminator, settings.seed)
    checkpoint = {"checkpoint": settings.checkpoint, "nimg": nimg}
    return Result({**result.protocol, **checkpoint}, result.metrics, result.unavailable)


def _of_images(settings: EvaluateCommand, compute: Compute) -> Result:
    assert settings.images is not None
    source: Source | None = build(settings.data) if settings.data is not None else None
    channels = source.shape[0] if source is not None else 3
    reference = _reference(settings, channels)
    if reference is None:
        assert source is not None
        reference = reference_set(source, source.load(), settings.evaluation)
    images = read_path(settings.images, "images", channels)
    shuffled = _shuffled(images, settings.evaluation.seed)
    return Evaluator(settings.evaluation, reference, compute.device).measure(shuffled, {"fakes": images.describe()})


def _reference(settings: EvaluateCommand, channels: int) -> ReferenceSet | None:
    if settings.reference is None:
        return None
    images = read_path(settings.reference, "reference", channels)
    chosen = _shuffled(images, settings.evaluation.seed)[: settings.evaluation.n_real]
    return ReferenceSet(chosen, {"reference": images.describe()})


def read_path(path: str, key: str, channels: int) -> Packed:
    """Return the images of a folder, zip, .npy or .npz in their own size. Errors name the path by its `key`.

    Raises:
        DataError: the images cannot be read, or have different sizes.
    """
    if Path(path).suffix.lower() in (".npy", ".npz"):
        images = convert_channels(array_images(Path(path), "images"), channels)
        return Packed(images, None, f"{Path(path).name}, as they are")
    return read_images(Archive(Path(path), key), Preprocessing(None, "none", channels))


def _shuffled(images: Packed, seed: int) -> Tensor:
    return images.images_NCHW[permutation(len(images), "shuffle", seed)]
