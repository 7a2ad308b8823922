"""Signs of collapse: no better for long, an expert that starves, ReLUs that die. Each is told when it comes about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mixgan_cli.config import Alarms
from mixgan_cli.training.checkpoint import Progress

Tell = Callable[[str, str, int], None]
"""Takes the kind of alarm, what there is to say, and at how many images."""


class Watch:
    """Looks at what is reported and measured, and tells of what looks like a collapse. `Progress.alarms` keeps it."""

    def __init__(self, alarms: Alarms, tell: Tell) -> None:
        self.alarms, self.tell = alarms, tell

    def ends(self, progress: Progress) -> bool:
        """Whether what looks like a collapse is to end the run."""
        return self.alarms.stop and bool(progress.alarms)

    def report(self, record: Mapping[str, Any], progress: Progress) -> None:
        """Look at what is watched while training: `active_neurons`, and `gate_usage` where the gate learns."""
        active, usage = record.get("active_neurons"), record.get("gate_usage")
        if self.alarms.active is not None and active is not None:
            self._set(
                progress,
                "active",
                active < self.alarms.active,
                f"{100 * active:.0f} % of the generator's ReLUs are active: dead ones learn nothing any more. Lower "
                "objective.optimizer.generator.lr, or take a norm without offset",
            )
        if self.alarms.usage is not None and usage is not None:
            least = min(range(len(usage)), key=usage.__getitem__)
            self._set(
                progress,
                "usage",
                usage[least] < self.alarms.usage / len(usage),
                f"expert {least} has {100 * usage[least]:.2g} % of the samples, an equal share would be "
                f"{100 / len(usage):.2g} %. Raise the weight of objective.balance, or lower model.k",
            )

    def evaluation(self, progress: Progress) -> None:
        """Look at how many evaluations have passed since the best one."""
        best = progress.best
        if self.alarms.quality is not None and best is not None:
            self._set(
                progress,
                "quality",
                progress.since_best >= self.alarms.quality,
                f"{progress.since_best} evaluations without a better {best.metric} than {best.value:.4g}, which was at "
                f"{best.nimg:,} images (best.pt)",
            )

    def _set(self, progress: Progress, kind: str, wrong: bool, told: str) -> None:
        if wrong and kind not in progress.alarms:
            progress.alarms.append(kind)
            self.tell(kind, told, progress.nimg)
        elif not wrong and kind in progress.alarms:
            progress.alarms.remove(kind)
