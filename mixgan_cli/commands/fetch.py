"""`mixgan fetch`: download and prepare a data set or the Inception weights, and verify their checksums.

It can be interrupted and repeated. Existing files are not downloaded again, and incomplete files are never used.
"""

from __future__ import annotations

import logging
from typing import Any

from omegaconf import DictConfig

from mixgan_cli.config.commands import FetchCommand
from mixgan_cli.config.components import build
from mixgan_cli.config.parse import parse
from mixgan_cli.data.dataset import Source
from mixgan_cli.errors import DataError, Unavailable
from mixgan_cli.evaluation.inception import FILE, HASH_PREFIX, file_checksum, find_weights

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any]:
    """Download and prepare, and return a description of the results."""
    settings: FetchCommand = parse(config, FetchCommand)
    output: dict[str, Any] = {}
    if settings.weights:
        output["weights"] = _weights()
    if settings.data is not None:
        source: Source = build(settings.data)
        fetch = getattr(source, "fetch", None)  # embedded sets and folders of images have nothing to download
        if fetch is not None:
            fetch()
        output["data"] = source.load().describe()
    return output


def _weights() -> dict[str, str]:
    try:
        path = find_weights(None, True)
    except Unavailable as error:
        raise DataError(str(error)) from error
    if path.name == FILE and not file_checksum(path).startswith(
        HASH_PREFIX
    ):  # the file name contains the start of the checksum
        raise DataError(f"{path}: damaged (its checksum is {file_checksum(path)}…). Delete it and fetch it again")
    log.info("Inception weights: %s", path)
    return {"path": str(path), "checksum": file_checksum(path)}
