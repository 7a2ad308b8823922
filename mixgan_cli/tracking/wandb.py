"""Weights & Biases as a mirror of metrics.jsonl."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mixgan_cli.errors import RunError
from mixgan_cli.runtime.reading import real_path
from mixgan_cli.tracking.tracker import Logger, RunInfo, flatten_lists

log = logging.getLogger("mixgan")


class WandbLogger(Logger):
    """Mirror each training run to one W&B run, also within a sweep; a resumed run continues under the same id.

    Files go to `wandb/` in the run's folder.

    Args:
        project: project on W&B.
        entity: user or team; None: the login's own.
        mode: `auto` is online with a login and offline without one; `wandb sync` uploads an offline run later.
        tags: tags of the W&B run, besides its data set, model and objective.
    """

    def __init__(
        self, project: str, entity: str | None, mode: Literal["auto", "online", "offline"], tags: Sequence[str]
    ) -> None:
        self.project, self.entity, self.mode, self.tags = project, entity, mode, list(tags)

    def start(self, run: RunInfo) -> None:
        """Open the W&B run.

        Raises:
            RunError: W&B cannot write to the run's folder, because its path is not UTF-8.
        """
        import wandb  # takes a second to import

        folder = real_path(run.folder)  # W&B's own process may have another current folder
        if str(folder) != str(folder).encode(errors="replace").decode():
            raise RunError(f"{folder}: this path is not UTF-8, and W&B writes to no other")

        self._wandb = wandb
        # W&B sends the command line, which must be text; the name of a file need not be
        sys.argv = [word.encode(errors="backslashreplace").decode() for word in sys.argv]
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self._mode(),
            tags=self._tags(run.facts),
            name=run.name,
            group=run.sweep,
            id=_remembered_id(run.folder),
            resume="allow",
            dir=str(folder),
            config={**run.config, "run": dict(run.facts)},
            reinit="finish_previous",  # by default a second job of a sweep would log into the first one's run
            settings=wandb.Settings(init_timeout=60, silent=True),
        )
        self._captions = run.captions
        self._run.define_metric("nimg")
        self._run.define_metric("*", step_metric="nimg")

    def record(self, record: Mapping[str, Any]) -> None:
        """Log scalars against nimg; a list, or a list of lists, becomes one scalar an entry."""
        self._run.log(flatten_lists(record))

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Log a picture with a caption."""
        caption = f"{self._captions.get(name, name)} After {nimg:,} images."
        self._run.log({name: self._wandb.Image(str(path), caption=caption), "nimg": nimg})

    def alarm(self, kind: str, message: str, nimg: int) -> None:
        """Send an alert, and log it as a scalar so that curves show where it was raised."""
        self._run.alert(title=f"{self._run.name}: {kind}", text=f"at {nimg:,} images: {message}", level="WARN")
        self._run.log({f"alarm/{kind}": 1, "nimg": nimg})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Write the final and the best metrics, and close the run. W&B shows it as failed if the training failed."""
        self._run.summary.update(dict(summary or {}))
        self._run.finish(exit_code=0 if summary is not None else 1)

    def _tags(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the tags of a run; W&B accepts up to 64 characters each."""
        known = [str(facts[key])[:64] for key in ("data", "model", "objective") if key in facts]
        return list(dict.fromkeys([*known, *self.tags]))

    def _mode(self) -> Any:
        if self.mode != "auto":
            return self.mode
        if mode := os.environ.get("WANDB_MODE"):
            return mode  # W&B itself reads this variable only once a process
        if self._wandb.api.api_key:
            return "online"
        log.info("W&B: no login, so the run is kept offline; `wandb sync` uploads it later")
        return "offline"


def _remembered_id(folder: Path) -> str:
    """Return the W&B id of the run in this folder. It is drawn once and kept, so that a resumed run continues it."""
    path = folder / "wandb_id"
    if not path.is_file():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
