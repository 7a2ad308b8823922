"""What the tests share: a small configuration, the program called in-process, and the real data where they are."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from tqdm import tqdm

from mixgan_cli import cli
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run, conf_dir
from mixgan_cli.runtime.io import file_lock
from mixgan_cli.training.checkpoint import Progress
from mixgan_cli.training.ema import MovingAverage
from mixgan_cli.training.loop import make_step, read_inputs
from mixgan_cli.training.phases import DiscriminatorStep, Phase, Phases
from mixgan_cli.training.step import Means
from tests import fast_hydra
from tests.processes import Program

# tqdm shares its own lock with forked processes: one that a test kills while holding it would stop the tests for good.
tqdm.set_lock(threading.RLock())
fast_hydra.install()

PAPER = ("objective=${model}", "tuning=none")
"""The recipe of the model's paper, also for HMoG on digits."""

TINY = (
    *PAPER,
    "debug=short",
    "hardware=cpu",
    "hardware.threads=1",  # tiny networks are faster so, and sums keep one order in every process
    "data.size=8",
    "training.nimg=96",
    "training.batch=8",
    "training.report_nimg=16",
    "training.checkpoint_nimg=32",
    "training.sample_nimg=96",
    "evaluation.n_fake=16",
    "evaluation.n_real=16",
    "evaluation.download=false",
    "training.figures=false",
    "model.backbone.channels=4",
)
"""A run on the embedded digits that takes a second."""


MGGAN = ("model=mggan", "model.k=4")
"""With TINY, a run with hard experts that have batch norm."""

ALL = "TEST_ALL" in os.environ
"""Set by `make test-all`: where a test tries some of many cases, it tries all, or ten times as many."""

ENVIRONMENT = dict(os.environ)
"""As it was: the tests of the program hide parts of it from the program."""


class Outcome(NamedTuple):
    """What a call of the program did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out.strip().splitlines()[-1])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no process waits for another one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this test run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _share_compositions(tmp_path_factory: pytest.TempPathFactory) -> None:
    fast_hydra.share(shared_folder(tmp_path_factory) / "hydra")


@pytest.fixture
def mixgan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Call the program in this process, with outputs in a temporary folder that is also the current one."""
    return program(tmp_path, monkeypatch)


def program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return what calls the program in this process and a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MIXGAN_WEIGHTS", raising=False)
    # tests compute gradients, which a process forked from theirs then cannot
    monkeypatch.setattr(cli, "run_in_child", lambda work: work())

    def call(*arguments: str) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        logging.getLogger("mixgan").handlers.clear()
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["mixgan"])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(arguments)
        logging.getLogger("mixgan").handlers.clear()
        return Outcome(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Begin a command in a process of its own, in the temporary folder; none outlives the test."""
    processes: list[Program] = []

    def begin(*arguments: str) -> Program:
        processes.append(Program(arguments, tmp_path))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a finished run of TINY and other overrides. Read only: all tests share it.

    The first test that asks for it trains it, whichever process that test runs in.
    """
    shared = shared_folder(tmp_path_factory) / "finished"

    def of(*overrides: str) -> Path:
        folder = shared / hashlib.sha256(repr(overrides).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".lock", folder.name), pytest.MonkeyPatch.context() as patch:
            if not list(folder.glob("outputs/*/DONE")):
                patch.setenv("MIXGAN_CACHE", str(shared / "cache"))
                torch.manual_seed(0)
                outcome = program(folder, patch)("train", *TINY, *overrides)
                assert outcome.code == 0, outcome.err
        (done,) = folder.glob("outputs/*/DONE")
        return done.parent

    return of


@pytest.fixture
def finished(finished_run: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a copy of such a run, as `mixgan train` leaves it in the current folder: a test may change it."""

    def of(*overrides: str) -> Path:
        run = finished_run(*overrides)
        copy = shutil.copytree(run, tmp_path / "outputs" / run.name, symlinks=True)
        return copy.relative_to(tmp_path)

    return of


def composition(*overrides: str, of: str = "config", hydra: bool = False) -> DictConfig:
    """Compose a configuration as Hydra does, with Hydra's own part where it is wanted; nothing is checked."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(of, list(overrides), return_hydra_config=hydra)


def composed(*overrides: str) -> Run:
    """Compose and check a training run."""
    return parse(composition(*overrides), Run)


def take_step(phase: Phase, nimg: int = 0, iteration: int = 0, **latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """Take one step of a phase alone, as an iteration does; a generator's on these latents."""
    result = phase.step(phase.inputs(nimg, iteration), **latents)
    return result.scalars if isinstance(result, DiscriminatorStep) else result


def take_steps(phases: Phases) -> dict[str, float]:
    """Take all steps of one iteration, and return what they log."""
    networks = phases.generator.context.networks
    average, means = MovingAverage(networks.generator, 0, None), Means()
    state = SimpleNamespace(phases=phases, networks=networks, ema=average, means=means, progress=Progress())
    make_step(state)(read_inputs(state))
    return means.read().means


def wait_for_reports(process: Program, run_dir: Path, more_than: int) -> None:
    """Wait until a process has logged more than so many lines."""
    log = run_dir / "metrics.jsonl"
    process.wait_for(lambda: log.is_file() and log.read_text().count("\n") > more_than)


def real_folder(variable: str, name: str) -> Path:
    """Return a folder of real data or weights, or skip the test, saying what is lost."""
    root = ENVIRONMENT.get(variable)
    if not root:
        pytest.skip(f"${variable} is not set: {name} is not tested on the real files")
    path = Path(root) / name
    if not path.exists():
        pytest.skip(f"{path} does not exist: {name} is not tested on the real files")
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B as it is on a machine without a login: in the environment, in files, or in its own memory of this process."""
    import wandb

    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    wandb.teardown()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is prepared or downloaded in a test is left to the user, or to another test."""
    monkeypatch.setenv("MIXGAN_CACHE", str(tmp_path / "own-cache"))


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    torch.manual_seed(0)
