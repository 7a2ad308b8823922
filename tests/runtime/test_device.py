import ctypes
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime import device
from mixgan_cli.runtime.device import Compute, resolve_hardware
from tests.conftest import composed


def hardware(*overrides: str):
    return composed("hardware=cpu", *overrides).hardware


def test_auto_on_a_cpu_is_float32_without_capture():
    compute = resolve_hardware(hardware())
    assert compute == Compute(torch.device("cpu"), "float32", channels_last=False, capture=False, compile=False)
    assert compute.with_resolved_precision(hardware()).precision == "float32"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hardware.capture=true"], "hardware.capture=true: iterations can only be captured on CUDA devices"),
        (["hardware.precision=tf32"], "hardware.precision=tf32: only GPUs support TF32"),
    ],
)
def test_options_of_gpus_are_refused_on_a_cpu(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve_hardware(hardware(*overrides))


def test_compile_is_refused_with_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"hardware\.compile=true: works only in a run of one process"):
        resolve_hardware(hardware("hardware.compile=true"))
    assert not resolve_hardware(hardware()).capture


def test_on_several_gpus_an_iteration_is_captured_if_asked(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "_own_gpu", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(device, "_precision", lambda *_: "float32")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    for capture, wanted in (("auto", False), ("true", True)):
        settings = composed("hardware=gpu", f"hardware.capture={capture}").hardware
        assert resolve_hardware(settings).capture is wanted


def test_compiled_networks_are_one_graph_each(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    networks = [nn.Sequential(nn.Linear(4, n), nn.LeakyReLU(), nn.Linear(n, 2)) for n in range(1, 11)]
    points = torch.randn(3, 4)
    expected = [network(points) for network in networks]
    Compute(torch.device("cpu"), compile=True).compile_(*networks)
    for network, value in zip(networks, expected, strict=True):
        torch.testing.assert_close(network(points), value)
    assert len(graphs) == len(networks)
    assert all(len(functions) >= 3 for functions in graphs)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc: its allocator is not used")
@pytest.mark.parametrize("keeping", [True, False])
def test_freed_memory_is_kept_by_the_process(keeping):
    """Memory that was freed and allocated again causes no page faults."""
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
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert (int(printed) < 1000) == keeping  # 408 MiB are 104,448 pages
