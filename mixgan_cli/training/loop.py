"""THE loop. One iteration is every phase in turn; what is due after it is reported, drawn, measured and saved.

Nothing is read from the device inside an iteration, and nothing random is kept between two: iteration s draws from the
random state that (seed, rank, s) names, so a resumed run goes on exactly as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mixgan_cli.config import Training
from mixgan_cli.errors import TrainingStopped
from mixgan_cli.randomness import key
from mixgan_cli.runs import RunFolder
from mixgan_cli.tracking.tracker import Tracker
from mixgan_cli.training.checkpoint import Best, State
from mixgan_cli.training.monitors import active_neurons
from mixgan_cli.training.statistics import Means

Draw = Callable[[int], Path]
"""Draws the sample grid at this nimg and returns where it is."""
Evaluate = Callable[[int], tuple[dict[str, Any], Best | None]]
"""Measures the run at this nimg: the metrics, and the one that decides which state is best."""


def train(
    training: Training, seed: int, state: State, folder: RunFolder, tracker: Tracker, draw: Draw, evaluate: Evaluate
) -> None:
    """Train from wherever `state` is to `training.nimg` images, and leave the final state in checkpoints/last.pt.

    Raises:
        TrainingStopped: a loss is not finite. The state is kept in checkpoints/diverged.pt.
    """
    progress, means, rank = state.progress, Means(), 0
    last_report = (time.monotonic(), progress.nimg)
    if progress.nimg == 0:
        tracker.image("samples", draw(0), 0)
    while progress.nimg < training.nimg:
        before = progress.nimg
        began = time.monotonic()
        torch.manual_seed(key("step", seed, rank, progress.step))
        state.networks.generator.gate.anneal(progress.step)
        for phase in state.phases:
            for _ in range(phase.steps):
                means.add(phase.step(progress.nimg, progress.step))
                progress.nimg += phase.shows
        state.ema.update(state.networks.generator, progress.nimg, progress.nimg - before)
        progress.step += 1
        progress.seconds += time.monotonic() - began
        due = partial(_due, before=before, now=progress.nimg, end=training.nimg)
        if due(training.report_nimg) or due(training.checkpoint_nimg):
            read = time.monotonic()
            losses = means.read()  # waits for the device
            progress.seconds += time.monotonic() - read
            _stop_unless_finite(losses, state, folder)
            now = (time.monotonic(), progress.nimg)
            watched = {"active_neurons": active_neurons(state.networks.generator)}
            tracker.record({**_record(state, losses, now, last_report), **watched})
            last_report = now
        if due(training.sample_nimg):
            tracker.image("samples", draw(progress.nimg), progress.nimg)
        if due(training.evaluate_nimg) and progress.nimg < training.nimg:
            evaluated = time.monotonic()
            metrics, figure = evaluate(progress.nimg)
            progress.evaluating += time.monotonic() - evaluated
            tracker.record({**progress.told(), **metrics})
            keep_best(state, figure, folder)
        if due(training.checkpoint_nimg):
            state.save(folder.checkpoint("last"))
        if due(training.sample_nimg) or due(training.evaluate_nimg) or due(training.checkpoint_nimg):
            last_report = (time.monotonic(), progress.nimg)  # their time is not training's


def _due(every: int | None, before: int, now: int, end: int) -> bool:
    """Whether a multiple of `every` images was passed, or the end."""
    return every is not None and (now >= end or now // every > before // every)


def keep_best(state: State, figure: Best | None, folder: RunFolder) -> None:
    """Save the state as best.pt where this figure is the best so far of its metric."""
    best = state.progress.best
    if figure is not None and (best is None or best.metric != figure.metric or figure.badness < best.badness):
        state.progress.best = figure
        state.save(folder.checkpoint("best"))


def _record(
    state: State, losses: Mapping[str, float], now: tuple[float, int], last_report: tuple[float, int]
) -> dict[str, Any]:
    rate = (now[1] - last_report[1]) / max(now[0] - last_report[0], 1e-9)
    return {**state.progress.told(), **losses, "img_per_second": rate}


def _stop_unless_finite(losses: Mapping[str, float], state: State, folder: RunFolder) -> None:
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if not bad:
        return
    kept = folder.checkpoint("diverged")
    state.save(kept)
    broken = [
        f"{player}.{name}"
        for player, network in zip(("generator", "discriminator"), state.networks, strict=True)
        for name, parameter in network.named_parameters()
        if not parameter.isfinite().all()
    ]
    weights = (
        f"Weights no longer finite: {', '.join(broken[:5])}{'…' if len(broken) > 5 else ''}."
        if broken
        else "All weights are still finite, so the loss itself overflows."
    )
    when = f"step {state.progress.step} ({state.progress.nimg} images)"
    raise TrainingStopped(
        f"training diverged by {when}, not finite: {', '.join(bad)}\n"
        f"{weights} The state is in {kept}; the last good one in {folder.checkpoint('last')}, if one was saved.\n"
        "Lower objective.optimizer.*.lr, take hardware.precision=float32, or an objective with a penalty (wgan_gp)."
    )
