"""Weights & Biases as a mirror of metrics.jsonl."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mixgan_cli.tracking.tracker import RunInfo

log = logging.getLogger("mixgan")


class WandbSink:
    """One W&B run a training run, also within a sweep; resumed under the same id when the training is.

    `mode: auto` is online where there is a login and offline where there is none; `wandb sync` uploads an offline run
    later. Files go to `wandb/` in the run's folder.
    """

    def __init__(
        self, project: str, entity: str | None, mode: Literal["auto", "online", "offline"], tags: Sequence[str]
    ) -> None:
        self.project, self.entity, self.mode, self.tags = project, entity, mode, list(tags)

    def start(self, run: RunInfo) -> None:
        """Open the W&B run."""
        import wandb  # here, for it takes a second to import

        self._wandb = wandb
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self._mode(),
            tags=self.tags,
            name=run.name,
            id=_remembered_id(run.folder),
            resume="allow",
            dir=str(run.folder.resolve()),  # W&B's own process may have another current folder
            config=dict(run.config),
            reinit="finish_previous",  # by default a second job of a sweep would log into the first one's run
            settings=wandb.Settings(init_timeout=60, silent=True),
        )
        self._run.define_metric("nimg")
        self._run.define_metric("*", step_metric="nimg")

    def record(self, record: Mapping[str, Any]) -> None:
        """Log scalars against nimg; a list, or a list of lists, becomes one scalar an entry."""
        self._run.log(dict(entry for name, value in record.items() for entry in _flat(name, value)))

    def image(self, name: str, path: Path, nimg: int) -> None:
        """Log a picture."""
        self._run.log({name: self._wandb.Image(str(path)), "nimg": nimg})

    def alarm(self, kind: str, told: str, nimg: int) -> None:
        """Send an alert, and mark the place."""
        self._run.alert(title=f"{self._run.name}: {kind}", text=f"at {nimg:,} images: {told}", level="WARN")
        self._run.log({f"alarm/{kind}": 1, "nimg": nimg})

    def finish(self, summary: Mapping[str, Any] | None) -> None:
        """Write the summary and close the run; it is shown as failed where the training failed."""
        self._run.summary.update(dict(summary or {}))
        self._run.finish(exit_code=0 if summary is not None else 1)

    def _mode(self) -> Any:
        if self.mode != "auto":
            return self.mode
        if said := os.environ.get("WANDB_MODE"):
            return said  # W&B's own variable decides; W&B itself reads it once a process
        if self._wandb.api.api_key:
            return "online"
        log.info("W&B: no login, so the run is kept offline; `wandb sync` uploads it later")
        return "offline"


def _remembered_id(folder: Path) -> str:
    """Return the W&B id of the run in this folder: made once, then kept, so that a resumed run goes on there."""
    path = folder / "wandb_id"
    if not path.is_file():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _flat(f"{name}/{number}", entry)
    else:
        yield name, value
