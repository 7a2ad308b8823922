"""`mixgan fetch`: brings a data set or the Inception weights here and prepares them, once and checked.

It may be interrupted and repeated: what is there already is not fetched again, and nothing half-done is used.
"""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mixgan_cli.config.components import build
from mixgan_cli.config.schema import FetchCommand, parse
from mixgan_cli.data.dataset import Source
from mixgan_cli.errors import DataError, Unavailable
from mixgan_cli.evaluation.inception import FILE, HASH_PREFIX, file_checksum, find_weights

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any]:
    """Fetch and prepare, and say what there is now."""
    settings: FetchCommand = parse(
        OmegaConf.masked_copy(config, [key for key in ("data", "weights") if key in config]), FetchCommand
    )
    told: dict[str, Any] = {}
    if settings.weights:
        told["weights"] = _weights()
    if settings.data is not None:
        source: Source = build(settings.data)
        fetch = getattr(source, "fetch", None)  # what is embedded or named by data.root has nothing to fetch
        if fetch is not None:
            fetch()
        told["data"] = source.load().describe()
    return told


def _weights() -> dict[str, str]:
    try:
        path = find_weights(None, True)
    except Unavailable as error:
        raise DataError(str(error)) from error
    if path.name == FILE and not file_checksum(path).startswith(HASH_PREFIX):  # its name says how its checksum begins
        raise DataError(f"{path}: damaged (its checksum is {file_checksum(path)}…). Delete it and fetch it again")
    log.info("Inception weights: %s", path)
    return {"path": str(path), "checksum": file_checksum(path)}
