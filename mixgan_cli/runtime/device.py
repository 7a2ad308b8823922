"""Resolve the hardware group on this machine: device, precision, memory format, threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from mixgan_cli.config.schema import Hardware
from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime.io import environment_number

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Compute:
    """A device with the precision and memory format of computations on it."""

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = False
    capture: bool | Literal["auto"] = False
    """If true, an iteration is captured as a CUDA graph; auto: if it can be."""
    compile: bool | Literal["auto"] = False
    """If true, convolutional networks and the gradient penalty are compiled; auto: the penalty of a long run."""

    def autocast(self) -> AbstractContextManager:
        """Return a context that computes in bfloat16 where PyTorch deems it safe, if the precision is bf16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, with its convolutions in the memory format."""
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return network.to(self.device).to(memory_format=memory_format)

    def compile_(self, *networks: nn.Module) -> None:
        """Compile networks in place if `compile` is true, at their first call. Their names and weights stay."""
        if self.compile is True:
            torch.compiler.reset()  # a sweep in one process would exceed the recompile limit
            torch._dynamo.config.recompile_limit = 64  # each network, input shape and grad mode counts once
            for network in networks:
                network._compiled_call_impl = torch.compile(_call(network), dynamic=False)  # type: ignore[assignment]

    def with_resolved_precision(self, hardware: Hardware) -> Hardware:
        """Return the group with the precision used here, which is part of a run's identity as it changes results."""
        return hardware.model_copy(update={"precision": self.precision})

    @property
    def name(self) -> str:
        """What a message calls the device."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"this CPU ({self.threads} thread{'s' if self.threads > 1 else ''})"

    @property
    def threads(self) -> int:
        """Threads that train on the CPU; 1 on a GPU, where a single thread starts the kernels."""
        return 1 if self.device.type == "cuda" else torch.get_num_threads()

    def describe(self) -> dict[str, str | int | bool]:
        """Return the entries of environment.json."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "device": name,
            "precision": self.precision,
            "channels_last": self.channels_last,
            "capture": bool(self.capture),
            "compile": self.compile,
            "threads": torch.get_num_threads(),
        }


def _call(network: nn.Module) -> Callable[..., Any]:
    """Return a function that calls the network. PyTorch 2.11 does not compile `nn.Sequential`'s own methods."""
    return lambda *inputs: network._call_impl(*inputs)


def resolve_hardware(hardware: Hardware) -> Compute:
    """Resolve the hardware group on this machine, and set torch's threads, precision and determinism.

    Raises:
        ConfigError: the group asks for a GPU that is not there, or for something that this device cannot do.
    """
    has_gpu = torch.cuda.is_available()
    if hardware.device == "cuda" and not has_gpu:
        raise ConfigError(
            "hardware=gpu: torch finds no CUDA device here. Use hardware=cpu or hardware=auto, or find out why "
            "torch.cuda.is_available() is false (driver, CUDA_VISIBLE_DEVICES, a CPU build of torch)"
        )
    on_gpu = has_gpu and hardware.device != "cpu"
    device = _own_gpu() if on_gpu else torch.device("cpu")
    processes = environment_number("LOCAL_WORLD_SIZE", 1)  # of this run on this machine
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    elif processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    if hardware.deterministic and on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.use_deterministic_algorithms(hardware.deterministic and on_gpu)
    torch.backends.cudnn.benchmark = on_gpu and not hardware.deterministic
    if not on_gpu:
        keep_freed_memory()
    precision = _precision(hardware, on_gpu)
    # also with bf16, where the penalty's convolutions stay in float32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    single_process = environment_number("WORLD_SIZE", 1) <= 1
    if hardware.capture is True and not on_gpu:
        raise ConfigError("hardware.capture=true: iterations can only be captured on CUDA devices; use auto")
    if hardware.compile is True and not single_process:
        raise ConfigError("hardware.compile=true: works only in a run of one process; use false")
    capture = hardware.capture if on_gpu and (single_process or hardware.capture is True) else False
    compiled = hardware.compile if hardware.compile != "auto" or (on_gpu and single_process) else False
    return Compute(device, precision, hardware.channels_last, capture, compiled)


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 matrix products and convolutions in float32, even if training uses TF32.

    TF32 has 10 bits of mantissa. It would move MS-SSIM by more than one per cent.
    """
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def keep_freed_memory() -> None:
    """Let glibc keep freed memory. A step frees all it allocated, and new pages are slow as the kernel zeroes them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)


def _precision(hardware: Hardware, on_gpu: bool) -> Precision:
    has_bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if hardware.precision == "auto":
        return "bf16" if has_bf16 else "float32"
    if hardware.precision == "bf16" and on_gpu and not has_bf16:
        raise ConfigError("hardware.precision=bf16: this GPU does not support bfloat16; use float32 or auto")
    if hardware.precision == "tf32" and not on_gpu:
        raise ConfigError("hardware.precision=tf32: only GPUs support TF32; use float32 or auto")
    return hardware.precision


def _own_gpu() -> torch.device:
    """Return the first CUDA device, or in a run of several processes the device with this process's local rank."""
    if not os.environ.get("LOCAL_RANK"):
        return torch.device("cuda")
    number = environment_number("LOCAL_RANK", 0)
    if number >= torch.cuda.device_count():
        raise ConfigError(f"process {number} of this machine has no CUDA device: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def total_memory() -> int:
    """Return the machine's total memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
