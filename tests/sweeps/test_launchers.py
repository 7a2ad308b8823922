"""Sweeps whose jobs run in other processes: each launcher for real, and SLURM with commands that stand in for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.faults import at_work
from tests.commands.test_train import same, weights
from tests.conftest import ALL, TINY
from tests.processes import DEADLINE

SPY = """
import os, sys
class Spy:  # tells what a process knew when it began to import torch
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            known = [os.environ.get(key, "-") for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")]
            open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.known"), "w").write(" ".join(known))
sys.meta_path.insert(0, Spy())
"""


@pytest.fixture
def environment(tmp_path):
    """That of a machine of two GPUs, where each process tells what it knew when torch was imported."""
    spies = tmp_path / "spies"
    spies.mkdir()
    (spies / "sitecustomize.py").write_text(SPY)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "MKL_", "MIXGAN_WEIGHTS"))}
    path = os.pathsep.join([str(spies), str(Path(__file__).parents[2]), *sys.path[1:]])
    return {**kept, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "5,7"}


def known(tmp_path):
    """(GPU, threads) of each process that imported torch."""
    return sorted(path.read_text().split() for path in (tmp_path / "spies").glob("*.known"))


def sweep(tmp_path, environment, *words):
    command = [sys.executable, "-m", "mixgan_cli", "train", "-m", *TINY, *words]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE)


def told(finished):
    return [json.loads(line) for line in finished.stdout.splitlines()]


def records(tmp_path):
    return [json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("sweeps/*/jobs/*.json")]


@pytest.mark.integ
@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_several_jobs_at_once(tmp_path, environment, launcher):
    """Three jobs, one of them bad, two at once: what is told, what is left, what each process gets of the machine."""
    finished = sweep(tmp_path, environment, f"sweep={launcher}", "sweep.jobs=2", "model.k=2,3,4")
    assert finished.returncode == 2, finished.stderr
    *jobs, summary = told(finished)
    assert [list(job) for job in jobs] == [["run_dir", "metrics", "unavailable"]] * 2
    assert all((tmp_path / job["run_dir"] / "DONE").is_file() for job in jobs)
    assert summary["jobs"] == {"done": 2, "failed": 1, "missing": 0}
    assert "model.k=3 failed: model.k=3: a complete binary tree" in finished.stderr
    assert "Traceback" not in finished.stderr

    by_status = {status: [job for job in records(tmp_path) if job["status"] == status] for status in ("done", "failed")}
    assert [len(jobs) for jobs in by_status.values()] == [2, 1]
    assert by_status["failed"][0]["exit_code"] == 2 and "model.k=3" in by_status["failed"][0]["error"]
    assert {tuple(job["gpus"]) for job in records(tmp_path)} <= {("5",), ("7",)}
    threads = str(max(1, os.cpu_count() // 2))
    workers = [each for each in known(tmp_path) if each != ["5,7", "-"]]  # that one is the parent, which sums up
    assert workers and all(gpu in "57" and count == threads for gpu, count in workers)


@pytest.mark.integ
@pytest.mark.parametrize("words", [("-m", "sweep=joblib"), ("-m", "sweep=submitit"), ("hardware.devices=2",)])
def test_processes_do_not_import_from_the_current_folder(tmp_path, environment, words):
    """Also where a module there has the name of one that Python itself imports first."""
    script = tmp_path / "bin" / "mixgan"
    script.parent.mkdir()
    script.write_text("from mixgan_cli.cli import main\nif __name__ == '__main__':\n    raise SystemExit(main())")
    for name in ("pickle", "random", "torch"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w').close(); raise SystemExit('imported')")
    command = [sys.executable, str(script), "train", *TINY, "evaluation=none", *words]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    assert finished.returncode == 0 and not (tmp_path / "imported").exists(), finished.stderr


SLURM = {  # as far as submitit needs it: an array's jobs run one after the other, again when requeued
    "sbatch": """
import os, re, subprocess, sys
script = sys.argv[1]
text = open(script).read()
here = os.environ["FAKE_SLURM"]
open(os.path.join(here, "script"), "w").write(text)
print("Submitted batch job 77", flush=True)
array = re.search("--array=0-([0-9]+)", text)
jobs = [f"77_{task}" for task in range(int(array[1]) + 1)] if array else ["77"]
if os.fork() == 0:
    os.setsid()
    for stream in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), stream)
    for job in jobs:
        task = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": job[3:]} if array else {}
        while True:
            subprocess.run(["bash", script], env={**os.environ, "SLURM_JOB_ID": "77", "SLURM_PROCID": "0", **task})
            if not os.path.exists(os.path.join(here, "requeue " + job)):
                break
            os.rename(os.path.join(here, "requeue " + job), os.path.join(here, "requeued " + job))
        open(os.path.join(here, "ended " + job), "w")
""",
    "srun": """
import os, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    option = words.pop(0)
    if option in ("--output", "--error"):
        names = {"%j": "77", "%A": "77", "%a": os.environ.get("SLURM_ARRAY_TASK_ID", ""), "%t": "0"}
        path = words.pop(0)
        for name, value in names.items():
            path = path.replace(name, value)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # a real cluster is never so quick that submitit has not yet
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, 1 if option == "--output" else 2)
open(os.path.join(os.environ["FAKE_SLURM"], "pid"), "w").write(str(os.getpid()))
os.execvp(words[0], words)
""",
    "scontrol": """
import os, sys
assert sys.argv[1] == "requeue"
open(os.path.join(os.environ["FAKE_SLURM"], "requeue " + sys.argv[2]), "w")
""",
    "sacct": """
import os
ended = [name.split()[1] for name in os.listdir(os.environ["FAKE_SLURM"]) if name.startswith("ended")]
print("JobID|State|NodeList")
for job in ("77", "77_0", "77_1"):
    print(f"{job}|{'COMPLETED' if job in ended else 'RUNNING'}|here")
""",
}


@pytest.fixture
def cluster(tmp_path, environment):
    """The environment of a machine with SLURM's commands; and the folder of what they did."""
    commands, did = tmp_path / "bin", tmp_path / "slurm"
    commands.mkdir()
    did.mkdir()
    for name, code in SLURM.items():
        (commands / name).write_text(f"#!{sys.executable} -S\n{code}")
        (commands / name).chmod(0o755)
    return {**environment, "PATH": f"{commands}{os.pathsep}{environment['PATH']}", "FAKE_SLURM": str(did)}, did


@pytest.mark.integ
def test_slurm(tmp_path, cluster):
    environment, did = cluster
    finished = sweep(tmp_path, environment, "sweep=slurm", "model.k=2,4", "hydra.launcher.partition=gpu")
    assert finished.returncode == 0, finished.stderr
    assert told(finished)[-1]["jobs"] == {"done": 2, "failed": 0, "missing": 0}
    flags = {line.removeprefix("#SBATCH --") for line in (did / "script").read_text().splitlines() if "SBATCH" in line}
    assert flags >= {
        "partition=gpu", "time=240", "gpus-per-node=1", "cpus-per-task=4", "mem=16GB", "array=0-1%2", "requeue",
        "signal=USR2@120", "nodes=1", "ntasks-per-node=1", "open-mode=append",
    }  # fmt: skip
    assert {tuple(job["gpus"]) for job in records(tmp_path)} == {()}  # SLURM gives them
    assert {gpu for gpu, _ in known(tmp_path)} == {"5,7"}


LONG = ["training.nimg=1000", "training.checkpoint_nimg=80", "evaluation=none"]


@pytest.mark.integ
def test_pre_empted_job_is_requeued_and_resumes(tmp_path, cluster, mixgan):
    environment, did = cluster
    command = [sys.executable, "-m", "mixgan_cli", "train", "-m", *TINY, *LONG, "sweep=slurm", "seed=0,1"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE) as process:
        checkpoint = wait_for(lambda: next(tmp_path.glob("outputs/*-s0/checkpoints/last.pt"), None), process)
        os.kill(int((did / "pid").read_text()), signal.SIGUSR2)  # as SLURM does before the time is out
        assert process.wait(timeout=DEADLINE) == 0
        assert json.loads(process.stdout.readlines()[-1])["jobs"] == {"done": 2, "failed": 0, "missing": 0}
    assert {path.name for path in did.glob("requeued *")} == {"requeued 77_0"}
    logs = "".join(path.read_text() for path in tmp_path.glob("outputs/sweeps/*/.submitit/*/*.err"))
    assert logs.count("resumed at") == 1 and logs.count(": started") == 2
    whole = mixgan("train", *TINY, *LONG, "seed=0", "paths.outputs=whole")
    assert Path(whole.json["run_dir"]).name == checkpoint.parents[1].name
    assert same(weights(whole.json["run_dir"]), weights(checkpoint.parents[1]))


def wait_for(found, process):
    """What `found` finds, while the process runs."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the sweep ended too soon"
        if (what := found()) is not None:
            return what
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.integ
def test_jobs_end_with_their_sweep(tmp_path, environment):
    """Killed, a sweep leaves no process behind at work on a run; repeated, it does what is missing."""
    words = [*TINY, *LONG, "sweep=joblib", "seed=0,1"]
    command = [sys.executable, "-m", "mixgan_cli", "train", "-m", *words]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: next(tmp_path.glob("outputs/*/checkpoints/last.pt"), None), process)
        process.kill()
    repeated = sweep(tmp_path, environment, *words[len(TINY) :])
    assert repeated.returncode == 0, repeated.stderr
    assert told(repeated)[-1]["jobs"] == {"done": 2, "failed": 0, "missing": 0}
    assert "resumed at" in repeated.stderr


LAUNCHERS = {"sequential": (), "joblib": ("sweep=joblib",), "submitit": ("sweep=submitit",)}


@pytest.mark.integ
@pytest.mark.parametrize("launcher", LAUNCHERS if ALL else ["joblib"])
def test_killed_job_does_not_block_its_sweep(tmp_path, environment, mixgan, launcher):
    """SIGKILL in the second of three jobs: the others run, the job is marked, and the repeated sweep resumes it."""
    words = [*LONG, *LAUNCHERS[launcher], "seed=0,1,2"]
    command = [sys.executable, "-m", "mixgan_cli", "train", "-m", *TINY, *words]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE) as process:
        checkpoint = wait_for(lambda: next(tmp_path.glob("outputs/*-s1/checkpoints/last.pt"), None), process)
        killed = checkpoint.parents[1]
        os.kill(at_work(killed), signal.SIGKILL)
        err = process.communicate(timeout=DEADLINE)[1]
        assert process.returncode == 128 + signal.SIGKILL, err
    message = "killed by signal 9 (SIGKILL), often the out-of-memory killer"
    assert f"seed=1 failed: {message}" in err and "Traceback" not in err
    by_seed = {job["overrides"][-1]: job for job in records(tmp_path)}
    assert {seed: job["status"] for seed, job in by_seed.items()} == {
        "seed=0": "done", "seed=1": "failed", "seed=2": "done",
    }  # fmt: skip
    assert (by_seed["seed=1"]["exit_code"], by_seed["seed=1"]["error"]) == (137, message)
    assert not (killed / "DONE").exists()

    repeated = sweep(tmp_path, environment, *words)
    assert repeated.returncode == 0, repeated.stderr
    assert told(repeated)[-1]["jobs"] == {"done": 3, "failed": 0, "missing": 0}
    logs = "".join(path.read_text() for path in tmp_path.glob("outputs/sweeps/*/.submitit/*/*.err"))
    assert (repeated.stderr + logs).count(f"{killed.relative_to(tmp_path)}: resumed at") == 1
    whole = mixgan("train", *TINY, *LONG, "seed=1", "paths.outputs=whole")
    assert same(weights(whole.json["run_dir"]), weights(killed))
