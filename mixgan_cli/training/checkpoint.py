"""The state of a run: tensors and plain containers, written atomically and loaded with `weights_only=True`."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from mixgan_cli.errors import RunError, error_summary
from mixgan_cli.models.export.safetensors import require_finite
from mixgan_cli.models.networks import Generator, Networks
from mixgan_cli.objectives.augment_ada import AdaptiveStrength
from mixgan_cli.optim.optimizers import load_optimizer
from mixgan_cli.optim.schedules import Schedule
from mixgan_cli.runs import RunFolder, config_differences
from mixgan_cli.runtime.io import atomic_write
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.phases import Phases
from mixgan_cli.training.step import Means

KEYS = frozenset({"config", "data", "progress", "generator", "discriminator", "ema", "optimizers", "means"})
"""The keys of a saved state. An adaptive augmentation adds `augment`."""
NETWORKS = ("generator", "discriminator", "ema")
"""Those that are weights of a network."""
MAX_VALUES = 2**20
"""Most values in a checkpoint that is read."""
LONGER = ("training.nimg", "lineage")
"""The keys of the configuration in which a run differs from a shorter one that it continues."""


@dataclass
class Best:
    """The best evaluation so far, by the metric that decides. `rank_value` is lower for better states."""

    metric: str
    value: float
    rank_value: float
    nimg: int


@dataclass
class Progress:
    """How far the run is. `step` counts iterations; `seconds` is the time in training, `evaluating` in evaluations."""

    step: int = 0
    nimg: int = 0
    last_handled_nimg: int | None = None
    """Images up to which all callbacks (reports, pictures, evaluations) have run; None: not even those due at 0."""
    seconds: float = 0.0
    evaluating: float = 0.0
    best: Best | None = None
    since_best: int = 0
    """Number of evaluations since the best one."""
    last_ranked_nimg: int | None = None
    """Images at the last evaluation that was compared with the best one."""
    alarms: list[str] = field(default_factory=list)
    """The active alarms of collapse."""
    ended: bool = False
    """True if an alarm ended the training early."""
    unlogged: list[str] = field(default_factory=list)
    """Lines of metrics.jsonl that could not be written yet."""

    def summary(self) -> dict[str, float]:
        """Return the first keys of every record: step, nimg and seconds."""
        return {"step": self.step, "nimg": self.nimg, "seconds": self.seconds}


@dataclass
class State:
    """Everything that changes in training.

    It holds no random state and no position in the data. Random numbers follow from the seed and the iteration, batches
    from the seed and the images shown. So a resumed run equals an uninterrupted one bit for bit: on a CPU with the same
    number of threads, on a GPU with `hardware.deterministic`.
    """

    networks: Networks
    ema: MovingAverage[Generator]
    phases: Phases
    progress: Progress
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    """The data set's description, including checksums."""
    gate_schedule: Schedule | None = None
    """Schedule of the gate's temperature."""
    means: Means = field(default_factory=Means)
    """Statistics since the last report."""

    @property
    def named_networks(self) -> dict[str, nn.Module]:
        """The networks by the names under which a saved state holds their weights."""
        return {**self.networks._asdict(), "ema": self.ema.average}

    @property
    def controller(self) -> AdaptiveStrength | None:
        """The strength of an adaptive augmentation, if there is one."""
        return self.phases.discriminator.context.controller

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dict of each network by its name, tensors of any shape [...]."""
        return {name: network.state_dict() for name, network in self.named_networks.items()}

    def save(self, path: Path) -> None:
        """Write the state.

        Raises:
            OSError: it cannot be written. The file from before is unchanged.
        """
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            self.write(file)

    def write(self, file: IO[bytes]) -> None:
        """Write the state to an open file or to memory."""
        content = {
            "config": dict(self.config),
            "data": dict(self.data),
            "progress": asdict(self.progress),
            **self.weights(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.phases.optimizers.items()},
            "means": self.means.state(),
            **({"augment": self.controller.state_dict()} if self.controller else {}),
        }
        torch.save(content, file)

    def keep(self, folder: RunFolder, n: int) -> None:
        """Write the state as last.pt and keep the n latest ones; those before it are named by their images.

        Raises:
            OSError: it cannot be written.
        """
        self.save(folder.checkpoint("last"))
        self.keep_older(folder, n)

    def keep_older(self, folder: RunFolder, n: int) -> None:
        """Name last.pt, which holds this state, by its images as well, and remove all but the n latest ones.

        A resumed run calls it, too, because the process before it may have been killed after it saved last.pt.

        Raises:
            OSError: the files cannot be written or removed.
        """
        if n == 1:
            return
        last = folder.checkpoint("last")
        named = folder.checkpoint(f"{self.progress.nimg:09d}")
        named.unlink(missing_ok=True)
        try:
            os.link(last, named)  # a hard link needs no space
        except OSError:  # a file system without hard links
            with atomic_write(named) as temporary:
                shutil.copyfile(last, temporary)
        for old in folder.older_checkpoints()[:-n]:
            old.unlink()

    def load(self, path: Path, longer: bool = False) -> None:
        """Load a saved state.

        Args:
            path: the file.
            longer: if true, it may be of a shorter run.

        Raises:
            RunError: the file is damaged, or from another configuration or other data (the differences are listed).
        """
        content = read_state(path)
        for what in ("config", "data"):
            different = config_differences(content[what], getattr(self, what), LONGER if longer else ())
            if different:
                name = {"config": "another configuration", "data": "other data"}[what]
                raise RunError(f"{path}: a checkpoint of {name}:\n  " + "\n  ".join(different))
        for name, network in self.named_networks.items():
            network.load_state_dict(content[name])
        for name, optimizer in self.phases.optimizers.items():
            load_optimizer(optimizer, content["optimizers"][name])
        progress = content["progress"]
        best = progress.pop("best")
        self.progress = Progress(**progress, best=Best(**best) if best else None)
        self.means.load_state(content["means"], self.networks.generator.device)
        if self.controller:  # a run with one has no older checkpoints
            self.controller.load_state_dict(content["augment"])


def _require_bounded(content: Any, max_bytes: int) -> None:
    """Check that no part of a file expands: few bytes can be a tensor of any size, or values that repeat each other.

    Raises:
        ValueError: there are more than MAX_VALUES values, the tensors take more than `max_bytes`, or are not dense.
    """
    waiting, values, needed = [content], 0, 0
    while waiting:
        value = waiting.pop()
        values += 1
        if isinstance(value, Tensor):
            if value.layout is not torch.strided or value.is_quantized:
                raise ValueError("a tensor that is not dense")
            needed += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        if values + len(waiting) > MAX_VALUES or needed > max_bytes:
            raise ValueError("it expands to much more than its own size")


def read_state(path: Path) -> dict[str, Any]:
    """Return what `State.save` wrote, on the CPU.

    Raises:
        RunError: the file does not exist, is damaged, or holds objects that could run code.
    """
    if not path.is_file():
        raise RunError(f"{path}: there is no such checkpoint")
    try:
        with zipfile.ZipFile(path) as records:  # torch does not compress: more content than file is a zip bomb
            if sum(record.file_size for record in records.infolist()) > path.stat().st_size:
                raise ValueError("it claims to hold more than its own size")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or KEYS - content.keys():
            raise ValueError(f"it should hold {', '.join(sorted(KEYS))}")
        _require_bounded(content, 4 * path.stat().st_size)
        require_finite({name: content[name] for name in NETWORKS})
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: damaged, or holds more than tensors and plain values, which could run code; it is not loaded"
        ) from error
    except Exception as error:  # any error of torch means that the file is damaged
        reason = f"{type(error).__name__}: {error_summary(error)}"
        raise RunError(f"{path}: cannot be read as a checkpoint ({reason})") from error
    return content
