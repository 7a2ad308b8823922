"""What happens between iterations: reports, samples, evaluations, checkpoints and warnings of collapse."""

from __future__ import annotations

import io
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
from mixgan_cli.errors import TrainingStopped, error_summary
from mixgan_cli.models.layers import forward_frozen_bn
from mixgan_cli.models.networks import Generator, non_finite
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.io import atomic_write
from mixgan_cli.runtime.random import fork_seed
from mixgan_cli.runtime.signals import Interruptions
from mixgan_cli.tracking.tracker import Tracker
from mixgan_cli.training.checkpoint import Best, Progress, State
from mixgan_cli.training.folder_watch import FolderWatch
from mixgan_cli.training.step import StepStats

log = logging.getLogger("mixgan")


@torch.no_grad()
def activation_stats(
    generator: Generator, samples: int = 128, share: int = 16, min_share: float = 0.1
) -> dict[str, Any]:
    """Return `active_neurons`, `sample_spread` and, if the gate is learned, `gate_usage` or `gate_prior`.

    `active_neurons` is the share of the generator's ReLU units that are active. A unit is active if it is positive on
    at least a tenth of the batch. A share that falls from above 90 % announces collapse (Hoang et al. 2017, section
    5.2). Units of a convolution are counted at each pixel; those of the gate are not counted. `gate_usage` is each
    expert's mean weight, [K]; a gate with a prior over experts, whose experts may fall out of use, has `gate_prior`
    instead, the prior itself, [K]. `sample_spread` is the standard deviation over samples, mean over pixels or
    coordinates.

    Args:
        generator: in its training mode.
        samples: the batch size, if the gate does not split the batch among the experts.
        share: otherwise, the number of samples per expert, so that the result does not depend on K.
        min_share: a unit is active if it is positive on this share of the batch.
    """
    active: list[Tensor] = []

    def note_active(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        active.append(((output > 0).float().mean(dim=0) >= min_share).flatten())

    parts = nn.ModuleList([generator.stem, generator.experts, generator.trunk])
    hooks = [module.register_forward_hook(note_active) for module in parts.modules() if isinstance(module, nn.ReLU)]
    try:
        latent_BZ = generator.latents(share * generator.k if generator.gate.splits_batch else samples)
        with torch.compiler.set_stance("force_eager"):  # what is compiled calls no hooks
            fakes = forward_frozen_bn(generator, latent_BZ)
    finally:
        for hook in hooks:
            hook.remove()
    share_active = torch.cat(active).float().mean().item() if active else 1.0
    learns = generator.gate.trainable and generator.k > 1
    prior_K = generator.gate.expert_prior()
    if not learns:
        usage = {}
    elif prior_K is None:
        usage = {"gate_usage": fakes.weights_BK.float().mean(dim=0).tolist()}
    else:
        usage = {"gate_prior": prior_K.tolist()}
    spread = fakes.samples.float().std(dim=0).mean().item()
    return {"active_neurons": share_active, **({"sample_spread": spread} if math.isfinite(spread) else {}), **usage}


class CollapseMonitor:
    """Watch reports and evaluations for signs of collapse. `Progress.alarms` holds the active alarms.

    Args:
        alarms: the configuration's alarms group.
        warn: takes the kind of an alarm, a message and the number of images. Called when an alarm becomes active.
    """

    def __init__(self, alarms: Alarms, warn: Callable[[str, str, int], None]) -> None:
        self.alarms, self.warn = alarms, warn

    def ends(self, progress: Progress) -> bool:
        """Return True if an active alarm is to end the run."""
        return self.alarms.stop and bool(progress.alarms)

    def report(self, record: Mapping[str, Any], progress: Progress) -> None:
        """Check a report: losses, `active_neurons`, `sample_spread` and, if the gate is learned, `gate_usage`."""
        active, usage, spread = map(record.get, ("active_neurons", "gate_usage", "sample_spread"))
        losses = {name: abs(value) for name, value in record.items() if name.startswith("loss/")}
        if self.alarms.loss is not None and losses:
            largest = max(losses, key=losses.__getitem__)
            self._set(
                progress,
                "loss",
                losses[largest] > self.alarms.loss,
                f"the absolute value of {largest} is {losses[largest]:.2g}: training diverges. Lower "
                "objective.optimizer.*.lr, or use an objective with a penalty (wgan_gp)",
            )
        if self.alarms.spread is not None and spread is not None:
            self._set(
                progress,
                "spread",
                spread < self.alarms.spread,
                f"the samples are almost equal: their standard deviation is {spread:.2g}. Lower "
                "objective.optimizer.*.lr, and check that the training images differ",
            )
        if self.alarms.active is not None and active is not None:
            self._set(
                progress,
                "active",
                active < self.alarms.active,
                f"{100 * active:.0f} % of the generator's ReLUs are active; dead ones no longer learn. Lower "
                "objective.optimizer.generator.lr, or use a norm without offset",
            )
        if self.alarms.usage is not None and usage is not None:
            rarest = min(range(len(usage)), key=usage.__getitem__)
            self._set(
                progress,
                "usage",
                usage[rarest] < self.alarms.usage / len(usage),
                f"expert {rarest} has {100 * usage[rarest]:.2g} % of the samples; an equal share is "
                f"{100 / len(usage):.2g} %. Raise the weight of objective.terms.balance, or lower model.k",
            )

    def evaluation(self, progress: Progress) -> None:
        """Check how many evaluations have passed since the best one."""
        best = progress.best
        if self.alarms.quality is not None and best is not None:
            self._set(
                progress,
                "quality",
                progress.since_best >= self.alarms.quality,
                f"{progress.since_best} evaluations without a better {best.metric} than {best.value:.4g}, reached at "
                f"{best.nimg:,} images (best.pt)",
            )

    def _set(self, progress: Progress, kind: str, active: bool, message: str) -> None:
        if active and kind not in progress.alarms:
            progress.alarms.append(kind)
            self.warn(kind, message, progress.nimg)
        elif not active and kind in progress.alarms:
            progress.alarms.remove(kind)


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
        self._watch = FolderWatch(folder) if distributed.is_main() else None
        self._unwritten_best: io.BytesIO | None = None
        """The best state, if the disk was full when it was reached. It is written with the next last.pt."""
        self._reported: tuple[float, int] | None = None
        """Seconds of training and images at the last report."""
        self.alarms_due = alarms.stop
        """True if alarms may have changed since the ranks agreed on whether to end: on all ranks or on none."""

    def after_step(self, state: State, interruptions: Interruptions) -> None:
        """Do everything that has come due since the last call: before the first iteration and after each one.

        Raises:
            TrainingStopped: too many steps in a row were not finite, or the run's folder was deleted or moved.
            Interrupted: a signal came while drawing or evaluating, which is repeated when the run is resumed.
        """
        training, progress = self.training, state.progress
        if progress.last_handled_nimg == progress.nimg:
            return
        self.stop_if_gone(state)
        self.tracker.advance(progress.nimg)
        self._reported = self._reported or (progress.seconds, progress.nimg)
        saving = self._due(training.checkpoint_nimg, state)
        reporting, evaluating = (self._due(every, state) for every in (training.report_nimg, training.evaluate_nimg))
        self.alarms_due |= self.monitor.alarms.stop and (reporting or saving or evaluating)
        if reporting or saving:
            with interruptions.deferred():
                stats = self._report(state)
            saving = saving and not stats.current  # while steps are skipped, keep the previous checkpoint
        if self._due(training.sample_nimg, state, at_first=True) and self.draw:
            with _warn_if_unwritable("a sample grid"):
                for name, path in self.draw(progress.nimg).items():
                    self.tracker.image(name, path, progress.nimg)
        evaluated = None
        if evaluating and not self._last(state) and self.evaluate:
            began = time.monotonic()
            evaluated = self.evaluate(progress.nimg)
            progress.evaluating += time.monotonic() - began
            self.stop_if_gone(state)
        with interruptions.deferred():
            if evaluated is not None:
                metrics, candidate = evaluated
                self.tracker.record({**progress.summary(), **metrics})
                self.keep_best(state, candidate)
                self.monitor.evaluation(progress)
            progress.last_handled_nimg = progress.nimg
            if saving:
                self.save(state)

    def save(self, state: State) -> None:
        """Save the state as last.pt. If it cannot be written, log a warning and keep the one before.

        Raises:
            TrainingStopped: the run's folder was deleted or moved.
        """
        if not distributed.is_main():
            return
        self.stop_if_gone(state)
        what = f"the state at {state.progress.nimg:,} images"
        if names := non_finite(state.weights()):  # since the last report, in a run that is interrupted
            log.warning("warning: %s is not saved, because %s is not finite; the one before is kept", what, names[0])
            return
        with _warn_if_unwritable(what):
            if self._unwritten_best is not None:  # before last.pt, from which a resumed run would not evaluate it again
                with atomic_write(self.folder.checkpoint("best")) as temporary:
                    temporary.write_bytes(self._unwritten_best.getvalue())
                self._unwritten_best = None
            state.keep(self.folder, self.training.keep)

    def stop_if_gone(self, state: State) -> None:
        """Stop the run if its folder was deleted or moved.

        Raises:
            TrainingStopped: it was. The message says where the state is.
        """
        if self._watch:
            self._watch.stop_if_gone(state)

    def keep_best(self, state: State, candidate: Best | None) -> None:
        """Save the state as best.pt if this value of the metric is the best so far.

        An evaluation that a resumed run repeats, because it was killed after it, counts once.
        """
        progress = state.progress
        if candidate is None or candidate.nimg == progress.last_ranked_nimg:
            return
        progress.last_ranked_nimg = candidate.nimg
        best = progress.best
        if best is None or best.metric != candidate.metric or candidate.rank_value < best.rank_value:
            progress.best, progress.since_best = candidate, 0
            self._unwritten_best = io.BytesIO()
            with _warn_if_unwritable("the best state so far"):
                state.save(self.folder.checkpoint("best"))
                self._unwritten_best = None
            if self._unwritten_best is not None:
                state.write(self._unwritten_best)
        else:
            progress.since_best += 1

    def _due(self, every: int | None, state: State, at_first: bool = False) -> bool:
        """Return True if a multiple of `every` images, or the end, was passed since the last call."""
        now, before = state.progress.nimg, state.progress.last_handled_nimg
        if every is None:
            return False
        if before is None:  # before the first image
            return at_first
        return self._last(state) or now // every > before // every

    def _last(self, state: State) -> bool:
        return state.progress.nimg >= self.training.total_nimg or state.progress.ended

    def _report(self, state: State) -> StepStats:
        progress, began = state.progress, time.monotonic()
        stats = state.means.read()  # waits for the device
        progress.seconds += time.monotonic() - began
        self._stop_if_diverged(stats, state)
        assert self._reported is not None
        seconds, nimg = self._reported
        self._reported = progress.seconds, progress.nimg
        if not stats.means or not distributed.is_main():  # no means: reported before the run was interrupted
            return stats
        rate = (progress.nimg - nimg) / max(progress.seconds - seconds, 1e-9)
        finite = {name: mean for name, mean in stats.means.items() if math.isfinite(mean)}
        skipped = {"skipped": stats.skipped} if stats.skipped else {}
        with fork_seed("observe", progress.step):  # the same latents whether or not the run was interrupted here
            watched = activation_stats(state.networks.generator)
        record = {**progress.summary(), **finite, **skipped, "img_per_second": rate, **watched}
        self.tracker.record(record)
        self.monitor.report(record, progress)
        return stats

    def _stop_if_diverged(self, stats: StepStats, state: State) -> None:
        broken = non_finite(state.weights())
        if stats.longest <= self.training.max_skipped and not broken:
            if stats.skipped:
                log.warning("warning: skipped %d steps with a non-finite loss or gradient", stats.skipped)
            return
        kept, last = self.folder.checkpoint("diverged"), self.folder.checkpoint("last")
        if distributed.is_main():
            with _warn_if_unwritable("the diverged state"):
                state.save(kept)
        names = [name for name, mean in stats.means.items() if not math.isfinite(mean)]
        what = f", never finite since the last report: {', '.join(names)}" if names else ""
        weights = (
            f"No longer finite: {', '.join(broken[:5])}{'…' if len(broken) > 5 else ''}."
            if broken
            else "All weights are still finite, because such steps are skipped."
        )
        raise TrainingStopped(
            f"training diverged by step {state.progress.step} ({state.progress.nimg} images): loss or gradient was not "
            f"finite in {stats.longest} steps in a row (training.max_skipped={self.training.max_skipped}){what}\n"
            f"{weights} The state is in {kept}; the last good one in {last}, if one was saved.\n"
            "Lower objective.optimizer.*.lr, use hardware.precision=float32, or an objective with a penalty (wgan_gp)."
        )


@contextmanager
def _warn_if_unwritable(what: str) -> Iterator[None]:
    """Log a warning if something cannot be written, and continue."""
    try:
        yield
    except OSError as error:
        log.warning(
            "warning: %s could not be written (%s); the run continues, and what was there before is kept",
            what,
            error_summary(error),
        )
