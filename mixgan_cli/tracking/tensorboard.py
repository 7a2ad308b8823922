"""TensorBoard as a mirror of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mixgan_cli.config.keys import flatten_keys
from mixgan_cli.config.values import PathText
from mixgan_cli.errors import ConfigError
from mixgan_cli.tracking.tracker import Logger, RunInfo, flatten_lists


class TensorBoardLogger(Logger):
    """Write scalars, images, warnings and hyperparameters as event files, with images shown (nimg) as the step.

    Args:
        folder: folder of the event files, inside the run's folder.
        flush_seconds: seconds after which pending events are written to disk.

    Raises:
        ConfigError: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: PathText, flush_seconds: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds to import
        except ImportError as error:
            raise ConfigError(
                f"logger=tensorboard: the package tensorboard cannot be imported ({error}). Install it with: "
                "pip install tensorboard"
            ) from error
        self.folder, self.flush_seconds = folder, flush_seconds
        self._writer_class = SummaryWriter

    def start(self, run: RunInfo) -> None:
        """Open the event file. A resumed run hides the events after its checkpoint: they are logged again."""
        self._hyperparameters = _hyperparameters(run.config)
        self._writer = self._writer_class(
            str(run.folder / self.folder),
            purge_step=run.nimg + 1 if run.nimg else None,
            flush_secs=self.flush_seconds,
        )

    def record(self, record: Mapping[str, Any]) -> None:
        """Log every number of the record against nimg; a list becomes one scalar an entry."""
        for name, value in flatten_lists(record).items():
            if name != "nimg" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, record["nimg"])

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Log a picture."""
        with Image.open(path) as picture:
            pixels_HWC = np.asarray(picture.convert("RGB"))
        self._writer.add_image(name, pixels_HWC, nimg, dataformats="HWC")

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Log a warning as text."""
        self._writer.add_text(f"alarm/{kind}", message, nimg)

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Log the hyperparameters with the final metrics, unless the run failed, and close the event file."""
        if summary is not None:
            metrics = {name: value for name, value in flatten_lists(summary).items() if isinstance(value, (int, float))}
            self._writer.add_hparams(self._hyperparameters, metrics, run_name=".")  # in the same folder
        self._writer.close()


def _hyperparameters(config: Mapping[str, Any]) -> dict[str, bool | str | float]:
    """Return every key of the configuration as `a.b.c` with its value. Lists become text; null is left out."""
    return {
        key: value if isinstance(value, (bool, str, int, float)) else str(value)
        for key, value in flatten_keys(config).items()
        if value is not None
    }
