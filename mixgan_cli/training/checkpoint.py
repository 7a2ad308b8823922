"""The state of a run: tensors and plain containers, written whole or not at all, read without unpickling code."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mixgan_cli.errors import RunError
from mixgan_cli.models.networks import Generator, Networks
from mixgan_cli.optim.optimizers import load_optimizer
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runs import RunFolder, config_differences
from mixgan_cli.runtime.io import atomic_write
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.phases import Phase, optimizers_of
from mixgan_cli.training.step import Means

KEYS = frozenset({"config", "data", "progress", "generator", "discriminator", "ema", "optimizers", "means"})
"""Of a saved state."""


@dataclass
class Best:
    """The best evaluation so far, by the metric that decides. `rank_value` is lower for better states."""

    metric: str
    value: float
    rank_value: float
    nimg: int


@dataclass
class Progress:
    """How far the run is. `seconds` is time spent training, `evaluating` on evaluations on the way."""

    step: int = 0
    nimg: int = 0
    last_handled_nimg: int | None = None
    """Images up to which all callbacks (reports, pictures, evaluations) have run; None: not even those due at 0."""
    seconds: float = 0.0
    evaluating: float = 0.0
    best: Best | None = None
    since_best: int = 0
    """Evaluations since the best one."""
    alarms: list[str] = field(default_factory=list)
    """What looks like a collapse now."""
    ended: bool = False
    """Whether an alarm has ended the training before its length."""

    def summary(self) -> dict[str, float]:
        """Return the first keys of every record: step, nimg and seconds."""
        return {"step": self.step, "nimg": self.nimg, "seconds": self.seconds}


@dataclass
class State:
    """All that changes while a run trains. Random numbers and data order are functions of the step: not in here."""

    networks: Networks
    ema: MovingAverage[Generator]
    phases: Sequence[Phase]
    progress: Progress
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    """What the data set says of itself, checksums and all."""
    gate_schedule: Schedule | None = None
    """Of the gate's temperature."""
    means: Means = field(default_factory=Means)
    """What was found since the last report."""

    def save(self, path: Path) -> None:
        """Write the state.

        Raises:
            OSError: it cannot be written; what was there before is still there.
        """
        content = {
            "config": dict(self.config),
            "data": dict(self.data),
            "progress": asdict(self.progress),
            "generator": self.networks.generator.state_dict(),
            "discriminator": self.networks.discriminator.state_dict(),
            "ema": self.ema.average.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers_of(self.phases).items()},
            "means": self.means.state(),
        }
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # torch hides a full disk behind an error of its own
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise

    def keep(self, folder: RunFolder, n: int) -> None:
        """Write the state as the last one, of which n are kept: last.pt and, named by their images, those before it.

        Raises:
            OSError: it cannot be written.
        """
        last = folder.checkpoint("last")
        self.save(last)
        if n == 1:
            return
        named = folder.checkpoint(f"{self.progress.nimg:09d}")
        named.unlink(missing_ok=True)
        try:
            os.link(last, named)  # a second name costs nothing
        except OSError:  # a file system without them
            with atomic_write(named) as temporary:
                shutil.copyfile(last, temporary)
        for old in folder.older_checkpoints()[:-n]:
            old.unlink()

    def load(self, path: Path) -> None:
        """Take over a state that was saved.

        Raises:
            RunError: the file is damaged, or from another configuration or other data (the differences are listed).
        """
        content = read_state(path)
        for what in ("config", "data"):
            different = config_differences(content[what], getattr(self, what))
            if different:
                name = {"config": "another configuration", "data": "other data"}[what]
                raise RunError(f"{path}: a checkpoint of {name}:\n  " + "\n  ".join(different))
        self.networks.generator.load_state_dict(content["generator"])
        self.networks.discriminator.load_state_dict(content["discriminator"])
        self.ema.average.load_state_dict(content["ema"])
        for name, optimizer in optimizers_of(self.phases).items():
            load_optimizer(optimizer, content["optimizers"][name])
        progress = content["progress"]
        best = progress.pop("best")
        self.progress = Progress(**progress, best=Best(**best) if best else None)
        self.means.load_state(content["means"], self.networks.generator.device)


def read_state(path: Path) -> dict[str, Any]:
    """Return what `State.save` wrote, on the CPU.

    Raises:
        RunError: there is no such file, it is damaged, or it holds what could run code.
    """
    if not path.is_file():
        raise RunError(f"{path}: there is no such checkpoint")
    try:
        with zipfile.ZipFile(path) as records:  # torch writes them as they are, so one that unpacks to more is a bomb
            if sum(record.file_size for record in records.infolist()) > path.stat().st_size:
                raise ValueError("it claims to hold more than its own size")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or KEYS - content.keys():
            raise ValueError(f"it should hold {', '.join(sorted(KEYS))}")
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: damaged, or holds more than tensors and plain values, which could run code; it is not loaded"
        ) from error
    except Exception as error:  # whatever torch stumbles over, it is the file that is wrong
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise RunError(f"{path}: cannot be read as a checkpoint ({reason})") from error
    return content
