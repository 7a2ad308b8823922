"""GPUs by name only: none is needed."""

import os
import stat
import subprocess
import sys

import pytest

from mixgan_cli.sweeps import gpus

TAKE = """
import os, sys
from pathlib import Path
from mixgan_cli.sweeps import gpus
taken = gpus.claim(sys.argv[1].split(","), Path(sys.argv[2]), int(sys.argv[3]))
assert taken == gpus.claim(["other"], Path(sys.argv[2])), "for good"
print(os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def taken(tmp_path):
    """Start a process that takes n GPUs of these and holds them; return it and what it sees."""
    processes = []

    def start(of, n=1):
        command = [sys.executable, "-c", TAKE, of, str(tmp_path), str(n)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        seen, torch_imported = process.stdout.readline().split()
        assert torch_imported == "False"
        return process, seen

    yield start
    for process in processes:
        process.communicate()


def test_jobs_share_gpus_only_if_none_is_free(taken):
    _, first = taken("3,GPU-a/1")
    second_process, second = taken("3,GPU-a/1")
    assert {first, second} == {"3", "GPU-a/1"}
    _, third = taken("3,GPU-a/1")
    _, fourth = taken("3,GPU-a/1")
    assert {third, fourth} == {"3", "GPU-a/1"}
    second_process.kill()  # however it ends, its GPU is free again
    second_process.wait()
    assert taken("3,GPU-a/1")[1] == second


def test_run_can_take_several_gpus(taken):
    assert taken("0,1,2", 2)[1] == "0,1"
    assert taken("0,1,2", 2)[1] == "2,0"
    assert taken("0,1,2", 8)[1] == "1,2,0"


def test_concurrent_processes_take_different_gpus(tmp_path):
    command = [sys.executable, "-c", TAKE, "a,b,c,d", str(tmp_path), "1"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sorted(process.stdout.readline().split()[0] for process in processes) == ["a", "b", "c", "d"]
    for process in processes:
        process.communicate()


@pytest.mark.parametrize(
    ("said", "found"),
    [("0,1", ("0", "1")), ("2, GPU-8932f937", ("2", "GPU-8932f937")), ("", ()), ("-1", ()), ("1,-1,2", ("1",))],
)
def test_visible_gpus_follow_cuda_visible_devices(monkeypatch, said, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert gpus.visible() == found


LISTED = "GPU 0: NVIDIA H100 (UUID: GPU-11-a)\nGPU 1: NVIDIA H100 (UUID: GPU-22-b)\n"
PARTS = "  MIG 1g.10gb     Device  0: (UUID: MIG-33-c)\n  MIG 1g.10gb     Device  1: (UUID: MIG-GPU-44/1/0)\n"


@pytest.mark.parametrize(
    ("listed", "found"), [(LISTED, ("GPU-11-a", "GPU-22-b")), (LISTED + PARTS, ("MIG-33-c", "MIG-GPU-44/1/0"))]
)
def test_visible_gpus_are_those_that_nvidia_smi_lists(monkeypatch, tmp_path, listed, found):
    command = tmp_path / "nvidia-smi"
    command.write_text(f'#!{sys.executable} -S\nimport sys\nassert sys.argv[1] == "-L"\nprint("""{listed}""")')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus.visible() == found


@pytest.mark.parametrize("code", [None, "import sys; sys.exit(9)"])
def test_no_gpu_is_visible_without_a_working_driver(monkeypatch, tmp_path, code):
    if code:
        (tmp_path / "nvidia-smi").write_text(f"#!{sys.executable} -S\n{code}")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible() == ()


def test_nothing_that_a_launcher_loads_imports_torch():
    """The program, Hydra's plugins and all that is unpickled with a job, until its command is imported."""
    code = """
import sys
from hydra.core.plugins import Plugins
import hydra_plugins.hydra_joblib_launcher._core, submitit.core._submit, joblib.externals.loky
import mixgan_cli.cli, mixgan_cli.sweeps.plan, mixgan_cli.sweeps.sweep
Plugins.instance()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
