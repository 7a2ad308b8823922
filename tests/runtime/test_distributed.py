import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from mixgan_cli.config.compose import groups
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run
from mixgan_cli.data.batches import PackedBatches, Sharded
from mixgan_cli.data.datasets.toy2d import Ring
from mixgan_cli.data.packed import Packed
from mixgan_cli.errors import DataError, TrainingStopped
from mixgan_cli.models.layers import BatchNorm1d, BatchNorm2d
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runtime import distributed
from mixgan_cli.runtime.device import Compute, resolve_hardware
from mixgan_cli.runtime.distributed import is_worker, launch, process_group, processes_per_node
from mixgan_cli.runtime.signals import Interrupted, Interruptions
from mixgan_cli.training.checkpoint import Progress, State, read_state
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.loop import iterate
from mixgan_cli.training.setup import build_phases
from tests.commands.test_train import weights
from tests.conftest import TINY, composed, wait_for_reports
from tests.processes import DEADLINE, server

CPU = torch.device("cpu")
STEPS = 50
TWO = composed("hardware=ddp", "hardware.device=cpu", "hardware.devices=2").hardware
RECIPES = {
    **{model: (f"model={model}",) for model in groups()["model"]},
    "mggan, one game for each expert": ("model=mggan", "objective.fakes=per_expert", "model.beta=0.5"),
    "hmog, leaves left out": ("model=hmog", "model.gate.dropout=0.3", "objective.augment.cutout=0.5"),
    "hmog, adaptive augmentation": (
        "model=hmog",
        "objective=non_saturating",
        "objective/augment=ada",
        "objective.augment.p=0.3",
        "objective.augment.rise=100",
    ),
    "mggan, r3gan": ("model=mggan", "objective=r3gan", "model.backbone.discriminator_norm=none", "training.fakes=8"),
    "hmog, packs": ("model=hmog", "model.pack=2"),
    "gan, batch norm under a penalty": ("model=gan", "model.backbone.discriminator_norm=batch"),
}


def settings(name):
    overrides = [*RECIPES[name], "model.backbone.channels=4", "model.latent.size=4", "objective.d_steps=2"]
    overrides += ["model.k=1" if {"model=gan", "model=d2gan"} & set(RECIPES[name]) else "model.k=2", "training.batch=8"]
    if "objective.augment.cutout=0.5" in overrides:
        overrides.append("objective/augment=diffaugment")
    return composed(*overrides)


def trained(run: Run):
    """The weights after 50 iterations, in float64: so that only the order of sums differs."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    networks = build_networks(run.model, (1, 8, 8))
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batches = Double(PackedBatches(Packed(images, None, "random"), 0, CPU))
    if distributed.world_size() > 1:
        batches = Sharded(batches, distributed.rank(), distributed.world_size())
    phases = build_phases(run.objective, networks, batches, 8, Compute(CPU), run.training.fakes)
    state = State(networks, MovingAverage(networks.generator, 100, None), phases, Progress(), {}, {})
    for _ in range(STEPS):
        iterate(state, seed=3)
    statistics = state.means.read()
    found = {f"means.{name}": torch.tensor(value) for name, value in statistics.means.items()}
    for part, network in {**networks._asdict(), "ema": state.ema.average}.items():
        found |= {f"{part}.{name}": value.detach().clone() for name, value in network.state_dict().items()}
    if state.controller:
        found |= {f"augment.{name}": value.clone() for name, value in state.controller.state_dict().items()}
    torch.set_default_dtype(torch.float32)
    return found


class Double:
    def __init__(self, batches):
        self.batches = batches

    def get_batch(self, nimg, batch):
        return self.batches.get_batch(nimg, batch).double()


def train_all(configurations, folder):
    with process_group(CPU):
        for name, configuration in configurations.items():
            torch.save(trained(parse(configuration, Run)), Path(folder) / f"{name}-{distributed.rank()}.pt")
    return distributed.rank()


@pytest.fixture(scope="module", autouse=True)
def _ranks_begin_at_once():
    """Ranks are forked from a process that has imported everything."""
    server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "START_METHOD", "forkserver")
        yield


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """What two processes make of every recipe."""
    folder = tmp_path_factory.mktemp("ranks")
    configurations = {name: settings(name).model_dump(mode="json") for name in RECIPES}
    assert launch(TWO, train_all, configurations, str(folder)) == 0
    return folder


@pytest.mark.integ
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_the_weights_of_one(name, of_two):
    alone = trained(settings(name))
    first, second = (torch.load(of_two / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert alone.keys() == first.keys() == second.keys()
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), f"{key}: the processes differ"
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}")


def draw_points(folder):
    with process_group(CPU):
        with distributed.synchronized():
            torch.manual_seed(4)
            batch = Sharded(Ring(8, 2.0, 0.02).load().batches(0, CPU), distributed.rank(), 2).get_batch(0, 10)
        torch.save(batch, Path(folder) / f"{distributed.rank()}.pt")


def test_fresh_points_are_split_over_ranks(tmp_path):
    launch(TWO, draw_points, str(tmp_path))
    torch.manual_seed(4)
    alone = Ring(8, 2.0, 0.02).load().batches(0, CPU).get_batch(0, 10)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), alone)


def normalise(folder):
    with process_group(CPU):
        found = {}
        for name, kind, x in inputs():
            layer = kind(3).double()
            part = x.chunk(2)[distributed.rank()].clone().requires_grad_()
            with distributed.synchronized():
                y = layer(part)
                (gradient,) = torch.autograd.grad((y**3).sum(), part, create_graph=True)
                (second,) = torch.autograd.grad((gradient**2).sum(), part)
            running = layer.running_mean.clone(), layer.running_var.clone()
            with torch.no_grad():
                outside = layer(part)
            found[name] = (y.detach(), gradient.detach(), second, *running, outside)
        torch.save(found, Path(folder) / f"{distributed.rank()}.pt")


def inputs():
    draw = torch.Generator().manual_seed(0)
    yield "vectors", BatchNorm1d, torch.randn(6, 3, generator=draw, dtype=torch.float64) + 2
    yield "maps", BatchNorm2d, torch.randn(6, 3, 2, 5, generator=draw, dtype=torch.float64) * 3


def test_batch_norm_uses_the_samples_of_all_ranks(tmp_path):
    """Values, first and second derivatives, running statistics; and per rank outside `synchronized()`."""
    launch(TWO, normalise, str(tmp_path))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, kind, x in inputs():
        layer = {BatchNorm1d: torch.nn.BatchNorm1d, BatchNorm2d: torch.nn.BatchNorm2d}[kind](3).double()
        x.requires_grad_()
        y = layer(x)
        (gradient,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((gradient**2).sum(), x)
        for number, expected in enumerate((y, gradient, second)):
            got = torch.cat([part[name][number] for part in parts])
            torch.testing.assert_close(got, expected.detach(), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(parts[0][name][3], layer.running_mean)
        torch.testing.assert_close(parts[1][name][4], layer.running_var)
        for part, own in zip(parts, x.detach().chunk(2), strict=True):
            centred = part[name][5].mean(dim=[0, *range(2, own.dim())])
            torch.testing.assert_close(centred, torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)


def fail(rank_that_fails, how):
    with process_group(CPU):
        if distributed.rank() == rank_that_fails:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"bug": ZeroDivisionError, "user": DataError}[how]("of this one")
        with distributed.synchronized():
            distributed.average_([torch.zeros(1)])  # waits for the rank that failed


@pytest.mark.parametrize(
    ("rank", "how", "kind", "message"),
    [(0, "bug", TrainingStopped, "ZeroDivisionError: of this one"), (1, "user", DataError, "of this one"),
     (1, "killed", TrainingStopped, "SIGKILL")],
)  # fmt: skip
def test_failed_process_ends_the_others_and_is_reported(monkeypatch, rank, how, kind, message):
    monkeypatch.setattr(distributed, "SHUTDOWN_SECONDS", 1000)  # for a busy machine
    began = time.monotonic()
    with pytest.raises(kind, match=message) as raised:
        launch(TWO, fail, rank, how)
    assert time.monotonic() - began < 900, "they hung until they were killed"
    if how == "bug":
        assert f"process {rank} of this machine" in str(raised.value) and "in fail" in str(raised.value)


DDP = [setting for setting in TINY if not setting.startswith("hardware")]
DDP += ["hardware=ddp", "hardware.device=cpu", "evaluation=none"]


def assert_close(first, second):
    for name, value in first.items():
        assert torch.allclose(second[name], value, rtol=1e-3, atol=1e-4), name


@pytest.mark.integ
def test_run_on_two_devices_is_the_same_run_on_one(mixgan, tmp_path):
    """The number of processes is no part of a run's identity."""
    alone = mixgan("train", *DDP, "hardware.devices=1", "paths.outputs=alone")
    assert alone.code == 0, alone.err
    environment = {**os.environ, "MIXGAN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mixgan_cli", "train", *DDP, "hardware.devices=2", "training.nimg=96"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    folder = tmp_path / json.loads(line)["run_dir"]
    assert folder.name == Path(alone.json["run_dir"]).name and (folder / "DONE").is_file()
    assert done.stderr.count("started") == 1
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    assert_close(weights(alone.json["run_dir"]), weights(folder))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["nimg"] for record in records] == [40, 80, 120]
    again = mixgan("train", *DDP, "hardware.devices=1")
    assert again.code == 0 and "this run is finished" in again.err


@pytest.mark.integ
def test_torchrun_and_two_nodes_train_the_same_weights(tmp_path):
    """The two nodes are two launchers on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MIXGAN_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mixgan_cli"]
    one = subprocess.run(
        [*torchrun, "train", *DDP, "paths.run=one"],
        cwd=tmp_path, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert one.returncode == 0, one.stderr
    assert len(one.stdout.strip().splitlines()) == 1
    node = [sys.executable, "-m", "mixgan_cli", "train", *DDP, "hardware.devices=1", "hardware.nodes=2"]
    node += [f"hardware.rendezvous=127.0.0.1:{port}", "paths.run=two"]
    nodes = [
        subprocess.Popen(node, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    outcomes = [process.communicate(timeout=DEADLINE) for process in nodes]
    assert [process.returncode for process in nodes] == [0, 0], outcomes
    assert sorted(len(out.splitlines()) for out, _ in outcomes) == [0, 1]
    assert_close(weights(tmp_path / "one"), weights(tmp_path / "two"))


@pytest.mark.integ
@pytest.mark.parametrize(
    ("sample_nimg", "number"),  # the main one draws most of the time, or never
    [(8, signal.SIGTERM), (100_000, signal.SIGTERM), (100_000, signal.SIGHUP)],
)
def test_signal_saves_the_state_and_ends_all_processes(start, tmp_path, sample_nimg, number):
    settings = [*DDP, "training.nimg=100_000", "training.checkpoint_nimg=100_000", "paths.run=here"]
    settings.append(f"training.sample_nimg={sample_nimg}")
    process = start("train", *settings, "hardware.devices=2")
    wait_for_reports(process, tmp_path / "here", more_than=2)
    process.send_signal(number)
    code, _, printed = process.finish()
    assert code == 128 + number, printed
    assert f"interrupted by {number.name}" in printed and "Traceback" not in printed
    state = read_state(tmp_path / "here" / "checkpoints" / "last.pt")
    assert 0 < state["progress"]["nimg"] < 100_000 and not (tmp_path / "here" / "FAILED").exists()


def test_lack_of_memory_is_not_taken_for_a_lost_process():
    with pytest.raises(torch.OutOfMemoryError), distributed._peers():
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(distributed.PeerLost), distributed._peers():
        raise RuntimeError("connection closed by peer")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["hardware.devices=3"], "training.batch=8: 3 processes"), (["hardware.devices=auto"], "no CUDA device to count"),
     (["hardware.nodes=2"], "hardware.rendezvous=HOST:PORT")],
)  # fmt: skip
def test_invalid_numbers_of_processes_are_refused(mixgan, overrides, message):
    outcome = mixgan("train", *DDP, *overrides)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err
    assert not Path("outputs").exists()


def test_auto_uses_all_gpus(monkeypatch):
    hardware = composed("hardware=ddp").hardware
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert processes_per_node(hardware) == 4


def test_slurm_gives_nodes_and_rendezvous(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7")
    hardware = composed("hardware=slurm").hardware
    assert (hardware.devices, hardware.nodes, hardware.rendezvous) == ("auto", 3, "10.0.0.7:29400")


PEERS = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [({"RANK": "", "MASTER_PORT": ""}, "$WORLD_SIZE=2: not set: RANK, MASTER_PORT. Use torchrun"),
     ({"RANK": "2"}, "$WORLD_SIZE=2: $RANK=2 is too large"),
     ({"WORLD_SIZE": "two"}, "$WORLD_SIZE=two: must be a whole number"),
     ({"LOCAL_WORLD_SIZE": "-1"}, "$LOCAL_WORLD_SIZE=-1: must be a whole number"),
     ({"MASTER_PORT": "70000"}, "$WORLD_SIZE=2: the processes cannot meet at 127.0.0.1:70000 (")],
)  # fmt: skip
def test_environment_of_a_process_is_checked(mixgan, monkeypatch, variables, message):
    for name, value in {**PEERS, **variables}.items():
        monkeypatch.setenv(name, value)
    outcome = mixgan("train", *TINY)
    assert outcome.code == 2 and f"mixgan train: {message}" in outcome.err and outcome.err.count("\n") == 1


def test_empty_environment_is_a_run_of_one_process(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    assert not is_worker() and resolve_hardware(composed("hardware=cpu").hardware).device == CPU


def test_waiting_for_other_processes_ends_by_a_signal(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {**PEERS, "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "COLLECTIVE_TIMEOUT", timedelta(seconds=3))
    monkeypatch.setattr(distributed, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(distributed.log, "info", lambda *arguments: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="SIGTERM"), Interruptions(), process_group(CPU):
        pass
    for thread in threading.enumerate():  # it ends after the timeout, not together with the interpreter
        if thread.name == distributed.__name__:
            thread.join()


@pytest.mark.parametrize("rendezvous", ["nowhere.invalid:29400", "localhost:port", "a b:1"])
def test_rendezvous_that_is_no_address_is_refused(mixgan, rendezvous):
    outcome = mixgan("train", *DDP, "hardware.devices=1", "hardware.nodes=2", f"hardware.rendezvous='{rendezvous}'")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert f"hardware.rendezvous={rendezvous}: 2 machines cannot meet there (" in outcome.err
