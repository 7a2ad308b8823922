"""What happens between iterations: reports, samples, evaluations, checkpoints, and warnings of collapse."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixgan_cli.config.schema import Alarms, Training
from mixgan_cli.errors import TrainingStopped
from mixgan_cli.models.layers import forward_frozen_bn
from mixgan_cli.models.networks import Generator
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.io import error_summary
from mixgan_cli.runtime.random import fork_seed
from mixgan_cli.runtime.signals import Interruptions
from mixgan_cli.tracking.tracker import Tracker
from mixgan_cli.training.checkpoint import Best, Progress, State
from mixgan_cli.training.step import StepStats


@torch.no_grad()
def activation_stats(
    generator: Generator, samples: int = 128, share: int = 16, min_share: float = 0.1
) -> dict[str, Any]:
    """Return `active_neurons` and, if the gate is learned, `gate_usage`.

    `active_neurons` is the share of the generator's ReLU units that are active. A unit is active if it is positive on
    at least a tenth of the batch. A share that falls from above 90 % announces collapse (Hoang et al. 2017, section
    5.2). Units of a convolution are counted at each pixel; those of the gate are not counted. `gate_usage` is each
    expert's mean weight, [K].

    Args:
        generator: in its training mode.
        samples: the batch size.
        share: the batch size of each expert, where experts share the batch, so that the result does not depend on K.
        min_share: a unit is active if it is positive on this share of the batch.
    """
    active: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        active.append(((output > 0).float().mean(dim=0) >= min_share).flatten())

    parts = nn.ModuleList([generator.stem, generator.experts, generator.trunk])
    hooks = [module.register_forward_hook(look) for module in parts.modules() if isinstance(module, nn.ReLU)]
    try:
        latent_BZ = generator.latents(share * generator.k if generator.gate.splits_batch else samples)
        with torch.compiler.set_stance("force_eager"):  # what is compiled calls no hooks
            fakes = forward_frozen_bn(generator, latent_BZ)
    finally:
        for hook in hooks:
            hook.remove()
    share_active = torch.cat(active).float().mean().item() if active else 1.0
    learns = generator.gate.trainable and generator.k > 1
    usage = {"gate_usage": fakes.weights_BK.float().mean(dim=0).tolist()} if learns else {}
    return {"active_neurons": share_active, **usage}


Tell = Callable[[str, str, int], None]
"""Takes the kind of alarm, what there is to say, and at how many images."""


class CollapseMonitor:
    """Watch reports and evaluations for signs of collapse. `Progress.alarms` holds the active alarms."""

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


log = logging.getLogger("mixgan")


class Callbacks:
    """Run everything that happens between iterations: reports, samples, evaluations and checkpoints.

    Only the main rank writes, draws and evaluates. A full disk does not end a run. What has been done is part of the
    state (`Progress.last_handled_nimg`), so a run that was interrupted during an evaluation repeats it when resumed.

    Args:
        training: the configuration's training group.
        alarms: its alarms group.
        folder: the run's folder.
        tracker: the loggers.
        draw: draws the sample grid and other pictures at a number of images, and returns the path of each picture.
            None: nothing is drawn.
        evaluate: evaluates the run at a number of images, and returns the metrics and the one that ranks states. None:
            nothing is evaluated.
    """

    def __init__(
        self,
        training: Training,
        alarms: Alarms,
        folder: RunFolder,
        tracker: Tracker,
        draw: Callable[[int], dict[str, Path]] | None = None,
        evaluate: Callable[[int], tuple[dict[str, Any], Best | None]] | None = None,
    ) -> None:
        self.training, self.folder, self.tracker = training, folder, tracker
        self.draw, self.evaluate = draw, evaluate
        self.monitor = CollapseMonitor(alarms, tracker.alarm)
        self._reported: tuple[float, int] | None = None
        """Seconds of training and images at the last report."""

    def after_step(self, state: State, interruptions: Interruptions) -> None:
        """Do everything that has come due since the last call.

        Raises:
            TrainingStopped: too many steps in a row were not finite.
            Interrupted: while drawing or measuring, which is then still to be done.
        """
        training, progress = self.training, state.progress
        if progress.last_handled_nimg == progress.nimg:
            return
        self._reported = self._reported or (progress.seconds, progress.nimg)
        saving = self._due(training.checkpoint_nimg, state)
        if self._due(training.report_nimg, state) or saving:
            with interruptions.deferred():
                told = self._report(state)
            saving = saving and not told.row  # not while all goes wrong: the state before is the better one
        if self._due(training.sample_nimg, state, at_first=True) and self.draw:
            with _going_on("a sample grid"):
                for name, path in self.draw(progress.nimg).items():
                    self.tracker.image(name, path, progress.nimg)
        measured = None
        if self._due(training.evaluate_nimg, state) and not self._last(state) and self.evaluate:
            began = time.monotonic()
            measured = self.evaluate(progress.nimg)
            progress.evaluating += time.monotonic() - began
        with interruptions.deferred():
            if measured is not None:
                metrics, figure = measured
                self.tracker.record({**progress.summary(), **metrics})
                self.keep_best(state, figure)
                self.monitor.evaluation(progress)
            progress.last_handled_nimg = progress.nimg
            if saving:
                self.save(state)

    def save(self, state: State) -> None:
        """Save the state as the last one; where that cannot be done, say so, and the one before it stays."""
        if distributed.is_main():
            with _going_on(f"the state at {state.progress.nimg:,} images"):
                state.keep(self.folder, self.training.keep)

    def keep_best(self, state: State, figure: Best | None) -> None:
        """Save the state as best.pt where this figure is the best so far of its metric."""
        progress = state.progress
        if figure is None:
            return
        best = progress.best
        if best is None or best.metric != figure.metric or figure.rank_value < best.rank_value:
            progress.best, progress.since_best = figure, 0
            with _going_on("the best state so far"):
                state.save(self.folder.checkpoint("best"))
        else:
            progress.since_best += 1

    def _due(self, every: int | None, state: State, at_first: bool = False) -> bool:
        """Whether a multiple of `every` images was passed since the last time, or the end."""
        now, before = state.progress.nimg, state.progress.last_handled_nimg
        if every is None:
            return False
        if before is None:  # nothing was shown yet
            return at_first
        return self._last(state) or now // every > before // every

    def _last(self, state: State) -> bool:
        return state.progress.nimg >= self.training.total_nimg or state.progress.ended

    def _report(self, state: State) -> StepStats:
        progress, began = state.progress, time.monotonic()
        told = state.means.read()  # waits for the device
        progress.seconds += time.monotonic() - began
        if told.skipped:
            self._stop_if_hopeless(told, state)
        assert self._reported is not None
        seconds, nimg = self._reported
        self._reported = progress.seconds, progress.nimg
        if not told.means or not distributed.is_main():  # it was reported before the run was interrupted here
            return told
        rate = (progress.nimg - nimg) / max(progress.seconds - seconds, 1e-9)
        finite = {name: mean for name, mean in told.means.items() if math.isfinite(mean)}
        skipped = {"skipped": told.skipped} if told.skipped else {}
        with fork_seed("observe", progress.step):  # the same latents whether or not the run was interrupted here
            watched = activation_stats(state.networks.generator)
        record = {**progress.summary(), **finite, **skipped, "img_per_second": rate, **watched}
        self.tracker.record(record)
        self.monitor.report(record, progress)
        return told

    def _stop_if_hopeless(self, told: StepStats, state: State) -> None:
        broken = [
            f"{player}.{name}"
            for player, network in zip(("generator", "discriminator"), state.networks, strict=True)
            for name, values in network.state_dict().items()
            if not values.isfinite().all()
        ]
        if told.longest <= self.training.max_skipped and not broken:
            log.warning("warning: left out, as loss or gradient is not finite: %d steps", told.skipped)
            return
        kept, last = self.folder.checkpoint("diverged"), self.folder.checkpoint("last")
        if distributed.is_main():
            with _going_on("the diverged state"):
                state.save(kept)
        names = [name for name, mean in told.means.items() if not math.isfinite(mean)]
        what = f", never finite since the last report: {', '.join(names)}" if names else ""
        weights = (
            f"No longer finite: {', '.join(broken[:5])}{'…' if len(broken) > 5 else ''}."
            if broken
            else "All weights are still finite, as such steps are left out."
        )
        raise TrainingStopped(
            f"training diverged by step {state.progress.step} ({state.progress.nimg} images): loss or gradient was not "
            f"finite in {told.longest} steps in a row (training.max_skipped={self.training.max_skipped}){what}\n"
            f"{weights} The state is in {kept}; the last good one in {last}, if one was saved.\n"
            "Lower objective.optimizer.*.lr, take hardware.precision=float32, or an objective with a penalty (wgan_gp)."
        )


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Say that something could not be written, and go on."""
    try:
        yield
    except OSError as error:
        log.warning(
            "warning: %s could not be written (%s); the run goes on, what was there before is kept",
            what,
            error_summary(error),
        )
