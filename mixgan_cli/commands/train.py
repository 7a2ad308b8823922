"""`mixgan train`: one run, from its configuration to its results. The same command resumes an unfinished run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mixgan_cli.config.components import build
from mixgan_cli.config.compose import given_keys, made_choices, sweep_name
from mixgan_cli.config.parse import parse
from mixgan_cli.config.redact import log_to_stderr
from mixgan_cli.config.schema import Run
from mixgan_cli.data.dataset import Dataset, ImageDataset, Source, size_of
from mixgan_cli.errors import ConfigError, DataError, TrainingStopped, Unavailable, error_summary
from mixgan_cli.evaluation.evaluator import Evaluator, check_settings
from mixgan_cli.evaluation.extractors import INCEPTION
from mixgan_cli.evaluation.inception import file_checksum, find_weights
from mixgan_cli.evaluation.ranking import best_values
from mixgan_cli.evaluation.reference import reference_set
from mixgan_cli.models.export.safetensors import checkpoint_errors, save_generator
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots.training import captions, draw_figures, draw_samples
from mixgan_cli.runs import RunFolder, open_run, run_folder, write_environment
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.distributed import is_worker, launch, process_group, processes_per_node
from mixgan_cli.runtime.io import write_json
from mixgan_cli.runtime.signals import Interrupted, Interruptions
from mixgan_cli.runtime.streams import prepare_streams
from mixgan_cli.tracking.jsonl import JsonlLogger, read_records
from mixgan_cli.tracking.progress import ProgressBar
from mixgan_cli.tracking.tracker import RunInfo, Tracker
from mixgan_cli.training.callbacks import Callbacks
from mixgan_cli.training.checkpoint import Best, State
from mixgan_cli.training.lineage import check_longer, go_on, with_lineage
from mixgan_cli.training.loop import train
from mixgan_cli.training.results import best_of, facts_of, run_results
from mixgan_cli.training.setup import begin, check_and_build, check_training_set

log = logging.getLogger("mixgan")


def run(config: DictConfig) -> dict[str, Any] | None:
    """Train, evaluate, and return the run's folder with its metrics; None in a process other than rank 0."""
    settings = parse(config, Run).model_copy(update={"choices": made_choices()})
    settings = with_lineage(settings, given_keys())
    if settings.sweep and (name := sweep_name()):
        settings = settings.model_copy(update={"sweep": settings.sweep.model_copy(update={"name": name})})
    if not is_worker() and processes_per_node(settings.hardware) * settings.hardware.nodes > 1:
        whole = {**settings.model_dump(mode="json"), "trusted": settings.trusted}
        return launch(settings.hardware, _run_worker, whole)
    return _run(settings)


def _run_worker(config: dict[str, Any]) -> dict[str, Any] | None:
    prepare_streams()
    log_to_stderr()
    return _run(parse(config, Run))


def _run(settings: Run) -> dict[str, Any] | None:
    compute = resolve_hardware(settings.hardware)
    settings = settings.model_copy(update={"hardware": compute.with_resolved_precision(settings.hardware)})
    with Interruptions() as interruptions, process_group(compute.device):
        if not distributed.is_main():
            log.setLevel(logging.ERROR)  # only rank 0 logs
        source: Source = build(settings.data)
        check_settings(settings.evaluation)
        networks = check_and_build(settings, source.shape)
        loggers = [build(logger) for logger in settings.logger.values()] if distributed.is_main() else []
        dataset: Dataset | None = None
        if settings.training.epochs is not None:  # the identity of a run has its length in images
            dataset = source.load()
            training = settings.training.in_images(size_of(dataset, "train"))
            settings = settings.model_copy(update={"training": training})
        check_longer(settings)
        _check_apart(source, settings)
        with _open_on_all_ranks(settings) as folder:
            if distributed.broadcast(folder.done):
                return _finished(folder, source, settings)
            try:
                dataset = source.load() if dataset is None else dataset
                check_training_set(dataset, settings.training.batch)
                state = begin(settings, networks, dataset, compute)
                _resume(state, folder, settings)
                if not distributed.is_main():
                    callbacks = Callbacks(settings.training, settings.alarms, folder, Tracker([]))
                    train(settings.training, settings.seed, state, compute, callbacks, interruptions)
                    return None
                write_environment(folder, {**compute.describe(), "processes": distributed.world_size()})
                _train_and_evaluate(settings, source, dataset, state, folder, compute, interruptions, loggers)
                return folder.summary()
            except Interrupted:
                raise
            except BaseException as error:
                folder.mark_failed(error)
                raise


def _check_apart(source: Source, settings: Run) -> None:
    """Check that the run's pictures do not become images of its own data set.

    Raises:
        ConfigError: the folder of a run that is not finished is in the folder of the data.
    """
    reads = getattr(source, "reads", None)  # sets that take any image below their root have it
    folder = run_folder(settings)
    if reads and reads(folder) and not RunFolder(folder).done:
        key = "paths.run" if settings.paths.run else "paths.outputs"
        raise ConfigError(
            f"{key}: {folder} is in data.root={settings.data['root']}, so the run's pictures would become images of "
            f"the data set. Give another {key}"
        )


@contextmanager
def _open_on_all_ranks(settings: Run) -> Iterator[RunFolder]:
    """Open and lock the run's folder on rank 0, and yield it on all ranks."""
    with open_run(settings) if distributed.is_main() else nullcontext() as folder:
        yield distributed.broadcast(folder)


def _finished(folder: RunFolder, source: Source, settings: Run) -> dict[str, Any] | None:
    if distributed.is_main():
        _warn_if_data_changed(folder, source)
        _warn_if_weights_changed(folder, settings.evaluation.weights)
    log.info("%s: this run is finished (force=true starts it again in a new folder)", folder.path)
    if folder.read_results().unavailable:
        log.info("to compute the unavailable metrics: mixgan evaluate run=%s", folder.path)
    return folder.summary() if distributed.is_main() else None


def _warn_if_data_changed(folder: RunFolder, source: Source) -> None:
    """Log a warning if the data set of a finished run has other images now than when the run was evaluated."""
    try:
        now = source.load().describe()
    except DataError:  # the data are gone, and the results stay
        return
    recorded = folder.read_results().protocol.get("reals")
    before = recorded if isinstance(recorded, Mapping) else {}
    checksums = {
        split: tuple(
            each[split].get("checksum") if isinstance(each.get(split), Mapping) else None for each in (before, now)
        )
        for split in ("train", "held_out")
    }
    changed = [split for split, (then, today) in checksums.items() if then and today and then != today]
    if changed:
        log.warning(
            "warning: the data have changed since this run (%s), so its results are those of other images. "
            "force=true trains again on the current images",
            ", ".join(changed),
        )


def _warn_if_weights_changed(folder: RunFolder, named: str | None) -> None:
    """Log a warning if a finished run was measured with other Inception weights than the named or found ones."""
    extractors = folder.read_results().protocol.get("extractors")
    recorded = extractors.get(INCEPTION) if isinstance(extractors, Mapping) else None
    before = recorded.get("weights") if isinstance(recorded, Mapping) else None
    if before is None:
        return
    with suppress(Unavailable, OSError):
        path = find_weights(named, may_download=False)
        if file_checksum(path) != before:
            log.warning(
                "warning: %s: these are other Inception weights than those of the results (checksum %s). "
                "mixgan evaluate run=%s evaluation.weights=%s measures the run with them",
                *(path, before, folder.path, path),
            )


def _resume(state: State, folder: RunFolder, settings: Run) -> None:
    """Load the last checkpoint, if there is one; else the state from which the run goes on, if it has a lineage."""
    last = folder.checkpoint("last")
    if not distributed.broadcast(last.is_file()):
        if settings.lineage:
            go_on(state, settings.lineage, folder, settings.trusted)
        else:
            log.info("%s: started", folder.path)
        return
    with checkpoint_errors(last):
        state.load(last)
    if distributed.is_main():
        with suppress(OSError):  # the next checkpoint does it again
            state.keep_older(folder, settings.training.keep)
    log.info("%s: resumed at %s images", folder.path, f"{state.progress.nimg:,}")


def _train_and_evaluate(
    settings: Run,
    source: Source,
    dataset: Dataset,
    state: State,
    folder: RunFolder,
    compute: Compute,
    interruptions: Interruptions,
    loggers: list[Any],
) -> None:
    """Train to the end, evaluate, and write the results."""
    generator = state.ema.average if settings.evaluation.ema else state.networks.generator
    sampler = Sampler(generator)
    evaluator = Evaluator(settings.evaluation, reference_set(source, dataset, settings.evaluation), compute.device)
    interim, reals = evaluator.interim(), evaluator.reference.samples
    progress = state.progress
    journal = JsonlLogger(folder.metrics, progress.unlogged)
    tracker = Tracker([journal, ProgressBar(), *loggers])
    total = progress.nimg if progress.ended else settings.training.total_nimg
    info = RunInfo(
        name=settings.name if settings.name and settings.paths.run else folder.path.name,
        folder=folder.path,
        config=state.config,
        total_nimg=total,
        nimg=progress.nimg,
        device=compute.name,
        threads=compute.threads,
        sweep=settings.sweep.name if settings.sweep else None,
        facts=facts_of(settings, state.networks),
        captions=captions(sampler, reals),
    )
    tracker.start(info)

    def draw(nimg: int) -> dict[str, Path]:
        drawn = {"samples": draw_samples(folder.samples, nimg, sampler, reals, settings.seed)}
        if settings.training.figures and tracker.shows_images:
            drawn |= draw_figures(folder, sampler, reals, settings.seed, pdf=False)
        return drawn

    def evaluate(nimg: int) -> tuple[dict[str, Any], Best | None]:
        metrics = interim.evaluate(sampler, state.networks.discriminator).metrics
        return {"protocol": interim.settings.name, **metrics}, best_of(metrics, nimg)

    callbacks = Callbacks(settings.training, settings.alarms, folder, tracker, draw, evaluate)
    try:
        train(settings.training, settings.seed, state, compute, callbacks, interruptions)
        if settings.training.figures:
            train_images = dataset.train if isinstance(dataset, ImageDataset) else None
            draw_figures(
                folder, sampler, reals, settings.seed, train_images
            )  # before the evaluation, which may be long
        result = evaluator.evaluate(sampler, state.networks.discriminator)
        # the best state is chosen by one protocol, as metrics of more images are better
        ranked = result.metrics if interim is evaluator else evaluate(progress.nimg)[0]
        with interruptions.deferred(), _results_must_be_written(folder):
            callbacks.stop_if_gone(state)
            if result.metrics:
                tracker.record({**progress.summary(), "protocol": settings.evaluation.name, **result.metrics})
            callbacks.keep_best(state, best_of(ranked, progress.nimg))
            state.save(folder.checkpoint("last"))
            save_generator(folder.generator, generator, settings.model.model_dump(mode="json"), source.shape)
            write_json(folder.results, run_results(settings, state, folder.path.name, result))
            journal.flush()
            folder.mark_done()
        tracker.finish({**result.metrics, **_best_values(folder.metrics)})
        for name, reason in result.unavailable.items():
            log.info("  %s is unavailable: %s", name, reason)
    except BaseException:
        tracker.finish(None)
        raise


def _best_values(log_path: Path) -> dict[str, float]:
    """Return the best value of each metric as best/NAME, for loggers; none if the log cannot be read."""
    with suppress(OSError):
        best = best_values(record for _, record in read_records(log_path))
        return {f"best/{metric}": value for metric, value in best.items()}
    return {}


@contextmanager
def _results_must_be_written(folder: RunFolder) -> Iterator[None]:
    """Turn an OSError into TrainingStopped: the run is trained, and the same command can write the rest later."""
    try:
        yield
    except OSError as error:
        raise TrainingStopped(
            f"{folder.path}: trained, but the results cannot be written ({error_summary(error)}). Free some space; the "
            "same command then evaluates the last saved state and writes the results"
        ) from error
