"""What the hardware group means on this machine."""

import ctypes
import subprocess
import sys

import pytest
import torch

from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime.device import Compute, resolve_hardware
from tests.conftest import composed


def hardware(*overrides: str):
    return composed("hardware=cpu", *overrides).hardware


def test_on_a_cpu_auto_is_float32_step_by_step():
    compute = resolve_hardware(hardware())
    assert compute == Compute(torch.device("cpu"), "float32", channels_last=False, capture=False, compile=False)
    assert compute.said_in(hardware()).precision == "float32"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["hardware.capture=true"], "hardware.capture=true: an iteration is recorded on one CUDA device"),
        (["hardware.precision=tf32"], "hardware.precision=tf32: only GPUs compute in it"),
    ],
)
def test_what_a_cpu_cannot_do(overrides, told):
    with pytest.raises(ConfigError, match=told):
        resolve_hardware(hardware(*overrides))


def test_what_several_processes_cannot_do(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"hardware\.compile=true: is for a run of one process"):
        resolve_hardware(hardware("hardware.compile=true"))
    assert not resolve_hardware(hardware()).capture


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc: freed memory is the allocator's matter"
)
@pytest.mark.parametrize("keeping", [True, False])
def test_freed_memory_stays_with_the_process(keeping):
    """Pages that were touched, freed and taken again are not cleared anew: there is no further page fault."""
    program = f"""
import resource, torch
from mixgan_cli.runtime.device import keep_freed_memory
if {keeping}: keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.empty((3 + n) * 2**20).fill_(1) for n in range(12)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(8)))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert (int(told) < 1000) == keeping  # 408 MiB are 104,448 pages
