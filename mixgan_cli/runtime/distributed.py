"""Several processes for one run: what ranks exchange, and how they are started (torchrun, elastic launcher)."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mixgan_cli import errors
from mixgan_cli.config.schema import Hardware
from mixgan_cli.errors import ConfigError, TrainingStopped, UserError
from mixgan_cli.runtime.signals import Interrupted, Interruptions

_synchronized = False


class PeerLost(RuntimeError):
    """A rank waited for another one that has ended. What is wrong is that one's to tell."""


def count() -> int:
    """Return how many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, 0 … count - 1."""
    return dist.get_rank() if count() > 1 else 0


def is_main() -> bool:
    """Return True on rank 0, which writes files, evaluates and logs."""
    return rank() == 0


@contextmanager
def synchronized() -> Iterator[None]:
    """Inside the block, ranks share each batch: they draw from one random state and average gradients and statistics.

    Every rank must enter it equally often.
    """
    global _synchronized
    _synchronized = count() > 1
    try:
        yield
    finally:
        _synchronized = False


def sync_size() -> int:
    """Return how many ranks share a batch: all of them inside `synchronized()`, else 1."""
    return count() if _synchronized else 1


def local_shard(rows: Tensor, parts: int = 1) -> Tensor:
    """Return this rank's shard of rows [N, …] that every rank holds, taken from each of `parts` equal parts."""
    if sync_size() == 1:
        return rows
    return rows.unflatten(0, (parts, sync_size(), -1))[:, rank()].flatten(0, 1)


def mean(values: Tensor) -> Tensor:
    """Return the mean of values of any shape over the synchronised ranks, twice differentiable."""
    return _Sum.apply(values) / sync_size() if sync_size() > 1 else values


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of any shape by their means over the synchronised ranks, in one all-reduce."""
    if sync_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten().to(tensors[0].dtype) for tensor in tensors])
    _add_up(flat)
    flat /= sync_size()
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


def highest(number: int) -> int:
    """Return the greatest of the ranks' numbers. All wait for the last one."""
    return max(_all(number))


def from_main(value: Any) -> Any:
    """Return rank 0's value. All wait for it."""
    return _all(value if is_main() else None)[0]


def _all(value: Any) -> list[Any]:
    values = [value] * count()
    if count() > 1:
        with _peers():
            dist.all_gather_object(values, value)
    return values


def _add_up(values: Tensor) -> None:
    with _peers():
        dist.all_reduce(values)


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(f"another process of this run ended: {error}") from error


class _Sum(Function):
    """The sum over ranks; its own adjoint."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        _add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


PATIENCE = timedelta(days=7)
"""How long ranks wait for the main one, which may be evaluating; one that has died is found out otherwise."""
GRACE = 60
"""Seconds that processes have to save the state when they are told to end."""
AFTER_OTHERS = 10
"""Seconds by which a process ends after one that it waited for in vain."""


def processes(hardware: Hardware) -> int:
    """Return how many processes run on this machine.

    Raises:
        ConfigError: `auto` without a CUDA device, or more processes than devices.
    """
    found = torch.cuda.device_count() if hardware.device != "cpu" else 0
    if hardware.devices == "auto":
        if not found:
            raise ConfigError("hardware.devices=auto: there is no CUDA device to count. Say how many processes")
        return found
    if found and hardware.devices > found:
        raise ConfigError(f"hardware.devices={hardware.devices}: there are {found} CUDA devices here")
    return hardware.devices


def started_by_others() -> bool:
    """Whether this process is one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Be, inside, one of the processes that torchrun or `launch` started; or alone."""
    if not started_by_others():
        yield
        return
    # objects go by gloo, so that to ask each other something does not wait for the device
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def launch(hardware: Hardware, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run work(*arguments) in `hardware.devices` processes on each of `hardware.nodes` machines.

    Args:
        hardware: the configuration's hardware group.
        work: a function that other processes can import.
        arguments: that can be pickled.

    Returns:
        What rank 0 returned; None on the other machines.

    Raises:
        UserError: what a process raised.
        TrainingStopped: a process failed or died; the message tells its traceback.
        Interrupted: a signal; the processes have saved what there is.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the message is ours
    config = LaunchConfig(
        min_nodes=hardware.nodes,
        max_nodes=hardware.nodes,
        nproc_per_node=processes(hardware),
        run_id="mixgan",
        rdzv_backend="c10d",
        rdzv_endpoint=hardware.rendezvous or "localhost:0",
        max_restarts=0,
        start_method="spawn",
        shutdown_timeout=GRACE,
    )
    try:
        with Interruptions():  # the launcher sets handlers of its own; afterwards, all is as it was
            return elastic_launch(config, _process)(work, *arguments).get(0)
    except SignalException as error:
        raise Interrupted(error.sigval) from error
    except ChildFailedError as error:
        raise _told(sorted(error.failures.values(), key=lambda failure: failure.timestamp)) from error


@record  # writes down what it raises, for `launch`
def _process(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except Interrupted as error:
        sys.exit(error.exit_code)
    except PeerLost:
        time.sleep(AFTER_OTHERS)  # so that the launcher sees first the one that is to blame
        raise


def _told(failures: list[ProcessFailure]) -> BaseException:
    """Return what the processes' failures come to."""
    for failure in failures:
        if failure.exitcode in (130, 143):
            return Interrupted(failure.exitcode - 128)
        message = failure.message["message"] if isinstance(failure.message, dict) else ""
        name, _, text = message.partition(": ")
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, (UserError, TrainingStopped)):
            return kind(text)
    parts = []
    for failure in failures:
        told = failure.message
        traceback = told["extraInfo"]["py_callstack"] if isinstance(told, dict) else str(told)
        parts.append(f"process {failure.local_rank} of this machine failed and ended the run:\n{traceback.rstrip()}")
    return TrainingStopped("\n".join(parts))
