"""Several processes for one run: what ranks exchange, and how they are started (torchrun, elastic launcher)."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mixgan_cli import errors
from mixgan_cli.config.schema import Hardware
from mixgan_cli.errors import ConfigError, TrainingStopped, UserError, error_summary
from mixgan_cli.runtime.io import environment_number
from mixgan_cli.runtime.signals import SIGNALS, Interrupted, Interruptions

log = logging.getLogger("mixgan")

_synchronized = False


class PeerLost(RuntimeError):
    """Another rank ended while this one waited for it. The other rank's own error says why."""


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's rank, 0 … world size - 1."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Return True on rank 0, which writes files, evaluates and logs."""
    return rank() == 0


@contextmanager
def synchronized() -> Iterator[None]:
    """Inside the block, ranks share each batch: they draw from one random state and average gradients and statistics.

    Every rank must enter it equally often.
    """
    global _synchronized
    _synchronized = world_size() > 1
    try:
        yield
    finally:
        _synchronized = False


def sync_size() -> int:
    """Return how many ranks share a batch: all of them inside `synchronized()`, else 1."""
    return world_size() if _synchronized else 1


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


def max_over_ranks(number: int) -> int:
    """Return the largest of all ranks' numbers. Every rank waits for the last one."""
    return max(_all(number))


def broadcast(value: Any) -> Any:
    """Return rank 0's value on every rank. Every rank waits for it."""
    return _all(value if is_main() else None)[0]


def _all(value: Any) -> list[Any]:
    values = [value] * world_size()
    if world_size() > 1:
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
    except torch.OutOfMemoryError:
        raise  # of this process
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


COLLECTIVE_TIMEOUT = timedelta(days=7)
"""Timeout of collectives; long, because rank 0 may be evaluating. The launcher detects dead ranks."""
SHUTDOWN_SECONDS = 60
"""Time for the processes to save their state after SIGTERM, in seconds."""
EXIT_DELAY_SECONDS = 10
"""Delay before a waiting rank exits, in seconds, so that the launcher reports the failed rank first."""
PATIENCE_SECONDS = 10
"""Time after which a process logs that it waits for the others, in seconds."""
START_METHOD = "spawn"
"""How the ranks of one machine start. Each is a new interpreter, because CUDA does not survive a fork."""


def processes_per_node(hardware: Hardware) -> int:
    """Return how many processes the run has on this machine.

    Raises:
        ConfigError: `auto` without a CUDA device, or more processes than devices.
    """
    found = torch.cuda.device_count() if hardware.device != "cpu" else 0
    if hardware.devices == "auto":
        if not found:
            raise ConfigError("hardware.devices=auto: there is no CUDA device to count. Give the number of processes")
        return found
    if found and hardware.devices > found:
        raise ConfigError(f"hardware.devices={hardware.devices}: there are {found} CUDA devices here")
    return hardware.devices


def is_worker() -> bool:
    """True if this is one of several processes that torchrun or `launch` started.

    Raises:
        ConfigError: the environment gives their number, but not how to find them.
    """
    number = environment_number("WORLD_SIZE", 1)
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if number > 1 and (missing or environment_number("RANK", 0) >= number):
        problem = f"not set: {', '.join(missing)}" if missing else f"$RANK={os.environ['RANK']} is too large"
        raise ConfigError(
            f"$WORLD_SIZE={number}: {problem}. Use torchrun, or unset WORLD_SIZE for a run of one process"
        )
    return number > 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group of the run inside the block; do nothing in a run of one process.

    Raises:
        ConfigError: the other processes cannot be found.
    """
    if not is_worker():
        yield
        return
    store, number, size = _meet()
    # gloo for objects, so that exchanging them does not wait for the device
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT, store=store, rank=number, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _meet() -> tuple[dist.Store, int, int]:
    """Wait until all processes of the run have started. Return what they share, this rank, and their number.

    The waiting itself cannot be interrupted by a signal, so another thread does it.
    """
    found: futures.Future[tuple[dist.Store, int, int]] = futures.Future()

    def wait() -> None:
        try:
            found.set_result(next(dist.rendezvous("env://", timeout=COLLECTIVE_TIMEOUT)))
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=wait, name=__name__, daemon=True).start()
    size, place = os.environ["WORLD_SIZE"], f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        futures.wait([found], PATIENCE_SECONDS)
        if not found.done():
            log.info("waiting for the other processes of this run: $WORLD_SIZE is %s, and they meet at %s", size, place)
        return found.result()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"$WORLD_SIZE={size}: the processes cannot meet at {place} ({error_summary(error)})"
        ) from error


def launch(hardware: Hardware, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run work(*arguments) in `hardware.devices` processes on each of `hardware.nodes` machines.

    Args:
        hardware: the configuration's hardware group.
        work: function that other processes can import.
        arguments: its arguments, which can be pickled.

    Returns:
        Rank 0's return value; None on the other machines.

    Raises:
        ConfigError: the machines cannot meet.
        UserError: a process raised it.
        TrainingStopped: a process failed or died; the message has its traceback.
        Interrupted: a signal arrived, and the processes have saved their state.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # mixgan prints its own message
    # LaunchConfig has no such argument in PyTorch 2.11, which waits for 30 seconds
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_SECONDS))
    config = LaunchConfig(
        min_nodes=hardware.nodes,
        max_nodes=hardware.nodes,
        nproc_per_node=processes_per_node(hardware),
        run_id="mixgan",
        rdzv_backend="c10d",
        rdzv_endpoint=hardware.rendezvous or "localhost:0",
        max_restarts=0,
        start_method=START_METHOD,
    )
    try:
        _check_address(config.rdzv_endpoint)
        with Interruptions():  # restores the handlers that the launcher replaces
            return elastic_launch(config, _process)(work, *arguments).get(0)
    except RendezvousError as error:
        raise ConfigError(
            f"hardware.rendezvous={hardware.rendezvous}: {hardware.nodes} machines cannot meet there "
            f"({error_summary(error)}). Give HOST:PORT of one of them, and start the same command on each"
        ) from error
    except SignalException as error:
        raise Interrupted(error.sigval) from error
    except ChildFailedError as error:
        raise _combined_error(sorted(error.failures.values(), key=lambda failure: failure.timestamp)) from error


def _check_address(endpoint: str) -> None:
    """Check HOST:PORT before torch does, which waits for a host that does not exist. Raises RendezvousError."""
    try:
        socket.getaddrinfo(*parse_rendezvous_endpoint(endpoint, 0))
    except (ValueError, OSError) as error:
        raise RendezvousError(error_summary(error)) from error


@record  # passes exceptions to `launch`
def _process(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except Interrupted as error:
        sys.exit(error.exit_code)
    except PeerLost:
        time.sleep(EXIT_DELAY_SECONDS)
        raise


def _combined_error(failures: list[ProcessFailure]) -> BaseException:
    """Return one exception for the failures of all processes."""
    for failure in failures:
        if failure.exitcode - 128 in SIGNALS:
            return Interrupted(failure.exitcode - 128)
        message = failure.message["message"] if isinstance(failure.message, dict) else ""
        name, _, text = message.partition(": ")
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, (UserError, TrainingStopped)):
            return kind(text)
    parts = []
    for failure in failures:
        message = failure.message
        traceback = message["extraInfo"]["py_callstack"] if isinstance(message, dict) else str(message)
        parts.append(f"process {failure.local_rank} of this machine failed and ended the run:\n{traceback.rstrip()}")
    return TrainingStopped("\n".join(parts))
