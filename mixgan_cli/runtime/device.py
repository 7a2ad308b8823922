"""Where and how it computes: the hardware group, resolved on this machine."""

from __future__ import annotations

import ctypes
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mixgan_cli.config.schema import Hardware
from mixgan_cli.errors import ConfigError

Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Compute:
    """A device, how it computes there, and in which memory format."""

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = False
    capture: bool = False
    """Whether an iteration is recorded as a CUDA graph."""
    compile: bool = False
    """Whether the convolutions' networks are compiled."""

    def autocast(self) -> AbstractContextManager:
        """Compute, inside, in bfloat16 where it is safe; or as always, where that is off."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, its convolutions in this memory format."""
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return network.to(self.device).to(memory_format=memory_format)

    def compile_(self, *networks: nn.Module) -> None:
        """Compile networks in place if `compile` is set, at their first call. Their names and weights stay."""
        if self.compile:
            torch.compiler.reset()  # one process may run many configurations, and it keeps so many compiled ones only
            for network in networks:
                network.compile(dynamic=False)

    def said_in(self, hardware: Hardware) -> Hardware:
        """Return the group with `precision` as it is here: it changes the result, so it belongs to a run's identity."""
        return hardware.model_copy(update={"precision": self.precision})

    def describe(self) -> dict[str, str | int | bool]:
        """Say what it is, for environment.json."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "device": name,
            "precision": self.precision,
            "channels_last": self.channels_last,
            "capture": self.capture,
            "compile": self.compile,
            "threads": torch.get_num_threads(),
        }


def resolve_hardware(hardware: Hardware) -> Compute:
    """Return what the hardware group means here, and set torch's threads, precision and determinism accordingly.

    Raises:
        ConfigError: a GPU is asked for and there is none, or what this device cannot do.
    """
    has_gpu = torch.cuda.is_available()
    if hardware.device == "cuda" and not has_gpu:
        raise ConfigError(
            "hardware=gpu: torch finds no CUDA device here. Take hardware=cpu or hardware=auto, or see why "
            "torch.cuda.is_available() is false (driver, CUDA_VISIBLE_DEVICES, a CPU build of torch)"
        )
    on_gpu = has_gpu and hardware.device != "cpu"
    device = _own_gpu() if on_gpu else torch.device("cpu")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this run, on this machine
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    elif processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    if hardware.deterministic and on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    torch.use_deterministic_algorithms(hardware.deterministic and on_gpu)
    torch.backends.cudnn.benchmark = on_gpu and not hardware.deterministic
    if not on_gpu:
        keep_freed_memory()
    precision = _precision(hardware, on_gpu)
    # under bf16 too: what stays in float32 there is a penalty's convolutions
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if hardware.capture is True and not (on_gpu and alone):
        raise ConfigError("hardware.capture=true: an iteration is recorded on one CUDA device. Take auto")
    if hardware.compile and not alone:
        raise ConfigError("hardware.compile=true: is for a run of one process. Take false")
    capture = on_gpu and alone if hardware.capture == "auto" else hardware.capture
    return Compute(device, precision, hardware.channels_last, capture, hardware.compile)


def keep_freed_memory() -> None:
    """Let the process keep what it frees: a step frees all that it took, and the kernel clears each page it gives."""
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
        raise ConfigError("hardware.precision=bf16: this GPU does not compute in bfloat16. Take float32 or auto")
    if hardware.precision == "tf32" and not on_gpu:
        raise ConfigError("hardware.precision=tf32: only GPUs compute in it. Take float32 or auto")
    return hardware.precision


def _own_gpu() -> torch.device:
    """Return the device of this process: the first, or, where several train together, the one with its number."""
    if "LOCAL_RANK" not in os.environ:
        return torch.device("cuda")
    number = int(os.environ["LOCAL_RANK"])
    if number >= torch.cuda.device_count():
        raise ConfigError(f"process {number} of this machine has no CUDA device: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def total_memory() -> int:
    """Return the machine's memory in bytes, used or not."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
