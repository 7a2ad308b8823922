"""Where and how it computes: the hardware group, resolved on this machine."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from mixgan_cli.config import Hardware
from mixgan_cli.errors import ConfigError


@dataclass(frozen=True)
class Compute:
    """A device, its number format and its memory format."""

    device: torch.device
    bf16: bool
    channels_last: bool

    def autocast(self) -> AbstractContextManager:
        """Compute, inside, in bfloat16 where it is safe; or as always, where that is off."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, its convolutions in this memory format."""
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return network.to(self.device).to(memory_format=memory_format)

    def said_in(self, hardware: Hardware) -> Hardware:
        """Return the group with `precision` as it is here: it changes the result, so it belongs to a run's identity."""
        return hardware.model_copy(update={"precision": "bf16" if self.bf16 else "float32"})

    def describe(self) -> dict[str, str | int | bool]:
        """Say what it is, for environment.json."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {
            "device": name,
            "precision": "bf16" if self.bf16 else "float32",
            "channels_last": self.channels_last,
            "threads": torch.get_num_threads(),
        }


def resolve(hardware: Hardware) -> Compute:
    """Return what the hardware group means here, and set torch's threads and determinism accordingly.

    Raises:
        ConfigError: a GPU is asked for and there is none, or bf16 on a device without it.
    """
    has_gpu = torch.cuda.is_available()
    if hardware.device == "cuda" and not has_gpu:
        raise ConfigError(
            "hardware=gpu: torch finds no CUDA device here. Take hardware=cpu or hardware=auto, or see why "
            "torch.cuda.is_available() is false (driver, CUDA_VISIBLE_DEVICES, a CPU build of torch)"
        )
    on_gpu = has_gpu and hardware.device != "cpu"
    device = _own_gpu() if on_gpu else torch.device("cpu")
    bf16_here = on_gpu and torch.cuda.is_bf16_supported()
    if hardware.precision == "bf16" and on_gpu and not bf16_here:
        raise ConfigError("hardware.precision=bf16: this GPU does not compute in bfloat16. Take float32 or auto")
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of this run, on this machine
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    elif processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    torch.use_deterministic_algorithms(hardware.deterministic and on_gpu)
    torch.backends.cudnn.benchmark = on_gpu and not hardware.deterministic
    return Compute(
        device,
        bf16=bf16_here if hardware.precision == "auto" else hardware.precision == "bf16",
        channels_last=hardware.channels_last,
    )


def _own_gpu() -> torch.device:
    """Return the device of this process: the first, or, where several train together, the one with its number."""
    if "LOCAL_RANK" not in os.environ:
        return torch.device("cuda")
    number = int(os.environ["LOCAL_RANK"])
    if number >= torch.cuda.device_count():
        raise ConfigError(f"process {number} of this machine has no CUDA device: there are {torch.cuda.device_count()}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def memory() -> int:
    """Return the machine's memory in bytes, used or not."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
