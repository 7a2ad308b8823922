"""Optimisers: any of torch's, or of a user's own package, named in the configuration.

A step may turn out not to be finite, which only the device knows. Fused optimisers skip such a step by themselves
(`found_inf`); for the others, parameters and state are put back, also without waiting for the device.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mixgan_cli.config.components import SCHEDULE, build, target_of
from mixgan_cli.optim.adam import Adam
from mixgan_cli.optim.schedules import Schedule

# Without a CUDA graph a capturable optimiser works as well, but torch warns.
warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")

Optimizers = Mapping[str, torch.optim.Optimizer]

FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)
"""Classes whose fused kernels are one pass over memory and skip a step where `found_inf` is 1.

Not SGD: if its first step is skipped, torch leaves the momentum uninitialised.
"""


def build_optimizer(
    settings: Mapping[str, Any], parameters: Iterable[nn.Parameter], nimg: int
) -> torch.optim.Optimizer:
    """Return the optimiser of some parameters, fused and capturable in a CUDA graph where its class can be.

    Args:
        settings: the component: `_target_`, its arguments, and a `schedule` of the learning rate, if any.
        parameters: what it optimises.
        nimg: length of the run in images, for the schedule.
    """
    target = target_of(settings)
    accepted = inspect.signature(target).parameters
    parameters = list(parameters)
    fused = issubclass(target, FUSED)
    options = {"fused": True} if fused else {}
    if "capturable" in accepted and (fused or parameters[0].is_cuda):
        options["capturable"] = True
    chosen = {name: value for name, value in options.items() if name not in settings}
    optimizer: torch.optim.Optimizer = build({**settings, **chosen}, **{next(iter(accepted)): parameters})
    schedule = build_schedule(settings, nimg)
    if schedule is not None:
        for group in optimizer.param_groups:
            group["base_lr"] = float(group["lr"])
            device = group["params"][0].device
            group["lr"] = torch.full((), group["base_lr"], device=device)  # read by the kernels, so a graph follows it
        optimizer.schedule = schedule  # type: ignore[attr-defined]
    if isinstance(optimizer, Adam):
        optimizer.schedule_of_beta2 = build_schedule({SCHEDULE: settings.get("beta2_schedule")}, nimg)
    return optimizer


def build_schedule(component: Mapping[str, Any], nimg: int) -> Schedule | None:
    """Return the schedule of a component for a run of `nimg` images; None if it has none or a constant one."""
    node = component.get(SCHEDULE)
    schedule: Schedule | None = build(node, nimg=nimg) if node else None
    return None if schedule is None or schedule.constant else schedule


LEARNING_RATE, BETA2 = "lr", "beta2"


def schedules_of(optimizer: torch.optim.Optimizer) -> dict[str, Schedule]:
    """Return the schedules of an optimiser's learning rate (LEARNING_RATE) and of its 1 - β2 (BETA2)."""
    found = {LEARNING_RATE: getattr(optimizer, "schedule", None), BETA2: getattr(optimizer, "schedule_of_beta2", None)}
    return {what: schedule for what, schedule in found.items() if schedule}


def set_scheduled(optimizer: torch.optim.Optimizer, what: str, factor: Tensor) -> None:
    """Set a scheduled value, a key of `schedules_of`, to `factor` (a scalar on the device) times its base value."""
    if what == BETA2:
        assert isinstance(optimizer, Adam)
        optimizer.scale_beta2(factor)
        return
    for group in optimizer.param_groups:
        group["lr"].copy_(group["base_lr"] * factor)


@torch.no_grad()
def step_unless(optimizer: torch.optim.Optimizer, skipped: Tensor) -> None:
    """Take a step, or leave parameters and state as they are where `skipped` (a scalar on the device) is 1.

    A state that the step creates counts as zero before it, which holds for torch's optimisers.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = skipped  # type: ignore[attr-defined]
        optimizer.step()
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [parameter.clone() for parameter in parameters]
    states = {
        (parameter, name): value.clone()
        for parameter, entries in optimizer.state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }
    optimizer.step()
    for parameter, old in zip(parameters, before, strict=True):
        parameter.copy_(torch.where(skipped.bool(), old, parameter))
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                old = states.get((parameter, name), torch.zeros_like(value))
                value.copy_(torch.where(skipped.to(value.device).bool(), old, value))


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load an optimiser's `state_dict()`, each tensor in the memory format that its parameter has now.

    Fused kernels walk through parameter and state in memory order; torch alone keeps the format of the saved tensor.
    Torch also leaves scheduled values where they were saved, so they are moved to its parameters' device.
    """
    optimizer.load_state_dict(saved)
    for group in optimizer.param_groups:
        for name, value in group.items():
            if isinstance(value, Tensor):
                group[name] = value.to(group["params"][0].device)
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter).copy_(value)
