"""The results of a run: results.json, and the evaluation that decides which state is the best."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mixgan_cli.config.components import TARGET, class_name
from mixgan_cli.config.identity import configuration_hash
from mixgan_cli.config.schema import Run
from mixgan_cli.evaluation.evaluator import Result
from mixgan_cli.evaluation.ranking import deciding
from mixgan_cli.models.networks import Networks, parameter_counts
from mixgan_cli.objectives import NoPenalty
from mixgan_cli.training.checkpoint import Best, State

log = logging.getLogger("mixgan")


def run_results(settings: Run, state: State, name: str, result: Result) -> dict[str, Any]:
    """Return the content of results.json.

    Args:
        settings: the configuration.
        state: the state at the end of training.
        name: the name of the run's folder.
        result: the final evaluation.
    """
    progress = state.progress
    share = round(progress.evaluating / (progress.evaluating + progress.seconds), 4)
    if progress.evaluating:
        log.info("  evaluations during training took %.1f %% of the time (training.evaluate_nimg)", 100 * share)
    return {
        "run": {
            "name": name,
            "seed": settings.seed,
            "hash": configuration_hash(settings.model_dump(mode="json")),
            "nimg": progress.nimg,
            "steps": progress.step,
            "seconds": round(progress.seconds, 3),
            "img_per_second": round(progress.nimg / progress.seconds, 1),
            "evaluation_share": share,
            "parameters": parameter_counts(state.networks),
            "best": dict(vars(progress.best)) if progress.best else None,
            **({"lineage": settings.lineage.model_dump()} if settings.lineage else {}),
            **({"ended_by": list(progress.alarms)} if progress.ended else {}),
        },
        "protocol": {**result.protocol, "nimg": progress.nimg},
        "metrics": result.metrics,
        "unavailable": result.unavailable,
    }


def facts_of(settings: Run, networks: Networks) -> dict[str, Any]:
    """Return what a run is, in short, for loggers."""
    objective = settings.objective
    losses = [class_name(part[TARGET]) for part in (objective.adversarial, objective.penalty)]
    return {
        "hash": configuration_hash(settings.model_dump(mode="json")),
        "seed": settings.seed,
        "data": settings.data["name"],
        "model": settings.model.name,
        "objective": "+".join(loss for loss in losses if loss != NoPenalty.__name__),
        "parameters": parameter_counts(networks),
    }


def best_of(metrics: Mapping[str, Any], nimg: int) -> Best | None:
    """Return the metric that decides which state is the best, or None if no metric can decide."""
    value = deciding(metrics)
    return None if value is None else Best(*value, nimg)
