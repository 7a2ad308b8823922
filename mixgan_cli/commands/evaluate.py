"""`mixgan evaluate`: metrics of a run, or of a folder, zip or array of images, against a data set or other images.

`compare=` adds the metrics of another result. Results of different protocols are compared only with `force=true`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from mixgan_cli.config.components import build
from mixgan_cli.config.schema import EvaluateCommand, parse
from mixgan_cli.data.archives import Archive
from mixgan_cli.data.dataset import Source
from mixgan_cli.data.datasets.arrays import array_images, convert_channels
from mixgan_cli.data.images import Preprocessing, read_images
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import RunError
from mixgan_cli.evaluation.evaluator import Evaluator, Result, check_settings
from mixgan_cli.evaluation.protocol import differences, require_comparable
from mixgan_cli.evaluation.reference import ReferenceSet, reference_set
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.io import write_errors, write_json
from mixgan_cli.runtime.random import permutation
from mixgan_cli.training.restore import restore


def run(config: DictConfig) -> dict[str, Any]:
    """Compute metrics, and return them with their protocol and the unavailable metrics."""
    settings: EvaluateCommand = parse(config, EvaluateCommand)
    check_settings(settings.evaluation)
    compute = resolve_hardware(settings.hardware)
    other = read_result(settings.compare) if settings.compare else None
    result = _of_images(settings, compute) if settings.images else _of_run(settings, compute)
    output = {
        **({"run_dir": settings.run} if settings.run else {"images": settings.images} if settings.images else {}),
        "metrics": result.metrics,
        "unavailable": dict(result.unavailable),
        "protocol": dict(result.protocol),
    }
    if settings.to:
        with write_errors(f"to={settings.to}"):
            write_json(Path(settings.to), output)  # before the comparison, which may be refused
    if other is not None:
        require_comparable(result.protocol, other["protocol"], settings.force)
        output["compared"] = {
            "with": settings.compare,
            "metrics": other["metrics"],
            "differences": differences(result.protocol, other["protocol"]),
        }
    return output


def read_result(path: str) -> Mapping[str, Any]:
    """Return metrics and protocol from a run's folder, its results.json, or a file that `to=` wrote.

    Raises:
        RunError: the file has no metrics or no protocol.
    """
    file = RunFolder(Path(path)).results if Path(path).is_dir() else Path(path)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"metrics": found["metrics"], "protocol": found["protocol"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"compare={path}: no metrics with their protocol in {file}") from error


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
