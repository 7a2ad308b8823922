"""Runs that are told to end, that go wrong for a while, or for good. `make faults` does so at random, and in number."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wandb

from mixgan_cli.commands import train as command
from mixgan_cli.errors import TrainingStopped
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime import signals
from mixgan_cli.runtime.signals import Interrupted, Interruptions
from mixgan_cli.training import loop
from mixgan_cli.training.checkpoint import Best, State, read_state
from tests.commands.test_train import lines, same, weights
from tests.conftest import ALL, TINY, wait_for_reports

LONG = [*TINY, "training.nimg=2000", "training.checkpoint_nimg=2000", "evaluation=none"]


@pytest.fixture(autouse=True)
def _signals_are_heard():
    """Here and in processes begun from here; a shell lets its jobs in the background ignore SIGINT, nohup SIGHUP."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def without_times(records):
    return [{k: v for k, v in record.items() if k not in ("seconds", "img_per_second")} for record in records]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_interrupted_run_saves_itself_and_resumes_exactly(mixgan, start, tmp_path, number, code):
    """A real process, and a real signal to it; nothing was saved before."""
    whole = mixgan("train", *LONG, "paths.run=whole")
    assert whole.code == 0, whole.err
    here = tmp_path / "here"
    process = start("train", *LONG, f"paths.run={here}")
    wait_for_reports(process, here, more_than=5)
    process.send_signal(number)
    ended, out, err = process.finish()
    assert ended == code and out == "" and "Traceback" not in err
    assert f"interrupted by {signal.Signals(number).name}; run the same command to continue" in err
    saved = read_state(here / "checkpoints" / "last.pt")["progress"]
    assert 0 < saved["nimg"] < 2000 and not (here / "FAILED").exists() and not (here / "DONE").exists()
    resumed = mixgan("train", *LONG, f"paths.run={here}")
    assert resumed.code == 0 and f"resumed at {saved['nimg']:,} images" in resumed.err
    assert same(weights("whole"), weights(here))
    assert without_times(lines("whole")) == without_times(lines(here))


def test_interrupted_evaluation_is_repeated(mixgan, monkeypatch):
    settings = [*TINY, "training.evaluate_nimg=40"]
    assert mixgan("train", *settings, "paths.run=whole").code == 0
    real, calls = Evaluator.evaluate, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)  # the handler runs before this is over
        return real(self, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    outcome = mixgan("train", *settings, "paths.run=here")
    assert outcome.code == 143 and len(calls) == 2
    resumed = mixgan("train", *settings, "paths.run=here")
    assert resumed.code == 0 and "resumed at 80 images" in resumed.err
    assert without_times(lines("whole")) == without_times(lines("here"))
    for which in ("last", "best"):
        one, other = (read_state(Path(run, "checkpoints", f"{which}.pt"))["progress"] for run in ("whole", "here"))
        assert one["best"] == other["best"] and one["since_best"] == other["since_best"]


def test_sigterm_ends_a_sweep(mixgan, monkeypatch):
    """The jobs that follow are not begun."""
    real = loop.iterate

    def told_to_end(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        real(*arguments)

    monkeypatch.setattr(loop, "iterate", told_to_end)
    outcome = mixgan("train", "-m", *TINY, "model.k=2,4")
    assert outcome.code == 143
    (folder,) = Path("outputs").glob("digits-*")
    assert read_state(folder / "checkpoints" / "last.pt")["progress"]["nimg"] == 40


def test_signals_are_deferred_and_then_raised(monkeypatch):
    with Interruptions() as interruptions:
        with interruptions.deferred():
            with interruptions.deferred():
                os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)  # passed on by a launcher: the same one
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert interruptions.received == signal.SIGINT
        with pytest.raises(Interrupted, match="SIGTERM") as raised:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert raised.value.exit_code == 143 and not raised.value.in_critical_section
        monkeypatch.setattr(signals, "REPEAT_SECONDS", 0)
        with pytest.raises(Interrupted, match="SIGINT") as raised, interruptions.deferred():
            os.kill(os.getpid(), signal.SIGINT)  # whoever presses Ctrl+C again will not wait
            time.sleep(1)
        assert raised.value.in_critical_section
        copy = pickle.loads(pickle.dumps(raised.value))
        assert (copy.number, copy.in_critical_section, str(copy)) == (signal.SIGINT, True, "SIGINT")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_forwarded_signal_does_not_interrupt_what_the_first_one_began():
    """A terminal's Ctrl+C reaches a job twice: directly, and forwarded by its sweep."""
    with Interruptions():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except Interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        else:
            pytest.fail("the first one was not raised")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored_signal_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)  # as the shell does for jobs in the background, and nohup
    try:
        with Interruptions() as interruptions:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        assert interruptions.received is None
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("place", ["mixgan_cli.cli.parse_flags", "mixgan_cli.cli.check_values"])
def test_signal_before_a_run_gives_its_exit_code(mixgan, monkeypatch, number, place):
    """During the start, and where a library turns it into an error of its own."""

    def told_to_end(*arguments):
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except Interrupted:
            raise ImportError("of a library") from None

    monkeypatch.setattr(place, told_to_end)
    outcome = mixgan("train", *TINY)
    assert outcome.code == 128 + number and "Traceback" not in outcome.err
    assert f"interrupted by {signal.Signals(number).name}" in outcome.err and not Path("outputs").exists()


def test_state_within_an_iteration_is_not_saved(mixgan, monkeypatch):
    """A second Ctrl+C in the middle of an iteration ends the run there, without a state of its middle."""
    real = loop.iterate

    def impatient(state, *others):
        if state.progress.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        real(state, *others)

    monkeypatch.setattr(signals, "REPEAT_SECONDS", -1)
    monkeypatch.setattr(loop, "iterate", impatient)
    outcome = mixgan("train", *TINY, "evaluation=none", "training.checkpoint_nimg=96", "paths.run=here")
    assert outcome.code == 130 and not Path("here/checkpoints/last.pt").exists()


def test_last_checkpoints_are_kept(mixgan):
    outcome = mixgan("train", *TINY, "training.keep=2", "training.checkpoint_nimg=40")
    assert outcome.code == 0, outcome.err
    run_dir = Path(outcome.json["run_dir"])
    names = sorted(path.name for path in (run_dir / "checkpoints").glob("*.pt"))
    assert names == ["000000080.pt", "000000120.pt", "best.pt", "last.pt"]
    assert read_state(run_dir / "checkpoints" / "000000080.pt")["progress"]["nimg"] == 80
    measured = mixgan(
        "evaluate", f"run={run_dir}", "checkpoint=000000080", "evaluation.metrics=[mixture]", "hardware=cpu"
    )
    assert measured.code == 0 and measured.json["protocol"]["nimg"] == 80, measured.err


def test_killed_run_keeps_the_checkpoints_it_should(mixgan, finished):
    """It was killed after it had saved last.pt, before that got its other name and older ones were removed."""
    words = ("training.keep=2", "training.checkpoint_nimg=40")
    folder = finished(*words)
    (folder / "DONE").unlink()
    (folder / "checkpoints" / "000000120.pt").rename(folder / "checkpoints" / "000000040.pt")
    assert mixgan("train", *TINY, *words).code == 0
    names = sorted(path.name for path in (folder / "checkpoints").glob("[0-9]*.pt"))
    assert names == ["000000080.pt", "000000120.pt"] and (folder / "DONE").exists()


def test_resumed_run_removes_its_temporary_files_only(mixgan, finished):
    """`mixgan sample` may be writing others at the same time."""
    folder = finished()
    names = ("checkpoints/.last.pt", "samples/.000000096.png", "samples/.real.png", "figures/dark/.experts.png")
    own = [folder / f"{name}.9.tmp" for name in names]
    others = [folder / "samples" / ".seed0-n16.png.9.tmp", folder / "export" / ".MODEL.md.9.tmp"]
    for path in (*own, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "DONE").unlink()
    assert mixgan("train", *TINY).code == 0
    assert not any(path.exists() for path in own) and all(path.exists() for path in others)


def test_leftover_of_a_run_killed_at_its_start_is_removed(mixgan):
    Path("here").mkdir()
    for name in (".config.yaml.9.tmp", ".mine.9.tmp"):
        Path("here", name).touch()
    assert mixgan("train", *TINY, "evaluation=none", "paths.run=here").code == 0
    assert [path.name for path in Path("here").glob(".*.tmp")] == [".mine.9.tmp"]


def test_non_finite_steps_are_skipped_and_reported(mixgan, monkeypatch):
    """Some, and the run ends well, with finite weights; and it is told."""
    from mixgan_cli.objectives.adversarial import Wasserstein

    real, calls = Wasserstein.generator, []

    def sometimes(self, score_N):
        calls.append(1)
        return real(self, score_N) * (float("nan") if len(calls) in (2, 3) else 1.0)

    monkeypatch.setattr(Wasserstein, "generator", sometimes)
    settings = [*TINY, "objective.d_steps=1", "training.max_skipped=2", "evaluation=none"]
    outcome = mixgan("train", *settings, "paths.run=here")
    assert outcome.code == 0 and outcome.err.count("skipped 1 steps with a non-finite loss or gradient") == 2
    assert [record.get("skipped", 0) for record in lines("here")] == [1, 1, 0, 0, 0, 0]
    assert all(value.isfinite().all() for value in weights("here").values())
    calls.clear()
    outcome = mixgan("train", *settings, "training.max_skipped=1", "paths.run=there")
    assert outcome.code == 1 and "not finite in 2 steps in a row (training.max_skipped=1)" in outcome.err


def test_statistics_that_are_not_finite_stop_the_run(mixgan, monkeypatch):
    """A left-out step does not mend the running statistics of batch norm that its forward pass has spoilt."""
    real = loop.iterate

    def spoilt(state, *others):
        if state.progress.step == 1:
            for name, value in state.networks.generator.named_buffers():
                if name.endswith("running_var"):
                    value.fill_(float("nan"))
            state.means.add({"loss/x": torch.tensor(0.0), "skipped": torch.tensor(1.0)})
        real(state, *others)

    monkeypatch.setattr(loop, "iterate", spoilt)
    outcome = mixgan("train", *TINY, "model=mggan", "model.k=2", "training.fakes=8")
    assert outcome.code == 1 and "No longer finite: generator." in outcome.err and "running_var" in outcome.err


def test_weights_of_the_last_step_must_be_finite(mixgan, monkeypatch):
    """No later step would be skipped and tell of it."""
    real = loop.iterate

    def overflow(state, *others):
        real(state, *others)
        if state.progress.nimg == 120:
            next(state.networks.discriminator.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr(loop, "iterate", overflow)
    outcome = mixgan("train", *TINY, "paths.run=here", "training.keep=2")
    assert outcome.code == 1 and "No longer finite: discriminator." in outcome.err, outcome.err
    assert not Path("here/results.json").exists()
    assert read_state(Path("here/checkpoints/last.pt"))["progress"]["nimg"] == 80


def test_interrupted_run_does_not_save_weights_that_are_not_finite(mixgan, monkeypatch):
    real = loop.iterate

    def overflow(state, *others):
        real(state, *others)
        if state.progress.step == 3:
            next(state.networks.generator.parameters()).data.fill_(float("nan"))
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop, "iterate", overflow)
    settings = [*TINY, "paths.run=here", "training.report_nimg=80", "training.checkpoint_nimg=80"]
    outcome = mixgan("train", *settings)
    assert outcome.code == 143 and "at 120 images is not saved, because generator." in outcome.err, outcome.err
    assert read_state(Path("here/checkpoints/last.pt"))["progress"]["nimg"] == 80


def test_huge_learning_rate_raises_an_alarm(mixgan):
    rates = [f"objective.optimizer.{network}.lr=1e6" for network in ("generator", "discriminator")]
    outcome = mixgan("train", *TINY, *rates, "evaluation=none")
    assert "training diverges. Lower objective.optimizer.*.lr" in outcome.err


ALARMING = [*TINY, "evaluation=none", "alarms.active=1"]


def test_alarm_is_reported_once_in_every_log(mixgan):
    outcome = mixgan("train", *ALARMING, "model=mggan", "model.k=2", "training.fakes=8", "paths.run=here")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("of the generator's ReLUs are active") == 1
    assert "warning active=at" in outcome.err  # the progress bar
    (alarm,) = [record for record in lines("here") if "alarm" in record]
    assert alarm["alarm"] == "active" and "ReLUs" in alarm["message"]


def test_wandb_takes_an_alarm(mixgan, monkeypatch, tmp_path):
    """For real, offline: a sink that fails is left out, and says so."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    outcome = mixgan(
        "train", *ALARMING, "model=mggan", "model.k=2", "training.fakes=8", "logger=wandb", "paths.run=here"
    )
    assert outcome.code == 0 and "is disabled for the rest of the run" not in outcome.err, outcome.err
    wandb.teardown()  # W&B's own process may still be writing
    (kept,) = Path("here").glob("wandb/offline-run-*/*.wandb")
    assert b"alarm/active" in kept.read_bytes() and b"ReLUs are active" in kept.read_bytes()


def test_an_alarm_can_end_the_training(mixgan):
    """At once, with an evaluation of what there is; and the same command says that it is done."""
    settings = [*ALARMING, "model=mggan", "model.k=2", "training.fakes=8", "alarms.stop=true", "evaluation=quick"]
    settings += ["evaluation.n_fake=16", "evaluation.n_real=16", "evaluation.metrics=[ms_ssim]", "paths.run=here"]
    outcome = mixgan("train", *settings)
    assert outcome.code == 0 and "ms_ssim" in outcome.json["metrics"], outcome.err
    assert read_state(Path("here/checkpoints/last.pt"))["progress"]["ended"]
    assert json.loads(Path("here/results.json").read_text())["run"]["nimg"] < 96
    assert json.loads(Path("here/results.json").read_text())["run"]["ended_by"] == ["active"]
    assert "this run is finished" in mixgan("train", *settings).err


@pytest.mark.parametrize("alarms", [(), ("alarms.stop=true",)], ids=["length", "alarm"])
def test_run_killed_at_its_end_counts_and_logs_once(mixgan, monkeypatch, alarms):
    """Before each of the last writes: the metrics decide the best state, so they count once, and are logged once."""
    settings = [*ALARMING, "evaluation=quick", "evaluation.metrics=[ms_ssim]", "evaluation.n_fake=16", *alarms]
    settings += ["evaluation.n_real=16", "evaluation.download=false", "training.evaluate_nimg=40", "model=mggan"]
    settings += ["model.k=2", "training.fakes=8"]
    monkeypatch.setattr(command, "best_of", lambda metrics, nimg: Best("fid", nimg, nimg, nimg))  # never better
    assert mixgan("train", *settings, "paths.run=whole").code == 0
    whole = read_state(Path("whole/checkpoints/last.pt"))["progress"]
    assert whole["ended"] == bool(alarms) and whole["since_best"] == (0 if alarms else 2)
    assert sum("alarm" in record for record in lines("whole")) == 1
    for place, name in ((command, "save_generator"), (command, "write_json"), (RunFolder, "mark_done")):

        def killed(*arguments):
            raise Interrupted(signal.SIGKILL)

        with monkeypatch.context() as patch:
            patch.setattr(place, name, killed)
            assert mixgan("train", *settings, f"paths.run={name}").code == 128 + signal.SIGKILL
        left = Path(name, "checkpoints/.best.pt.1.tmp")
        left.touch()
        assert mixgan("train", *settings, f"paths.run={name}").code == 0
        assert without_times(lines(name)) == without_times(lines("whole")) and not left.exists()
        progress = read_state(Path(name, "checkpoints/last.pt"))["progress"]
        assert {**progress, "seconds": 0, "evaluating": 0} == {**whole, "seconds": 0, "evaluating": 0}


def test_full_disk_while_saving_is_logged_and_the_run_continues(mixgan, monkeypatch):
    real, tries = State.save, []

    def full(self, path):
        tries.append(path.name)
        if len(tries) == 1:
            raise OSError(28, "No space left on device")
        real(self, path)

    monkeypatch.setattr(State, "save", full)
    outcome = mixgan("train", *TINY, "evaluation=none")
    assert outcome.code == 0 and "could not be written (No space left on device); the run continues" in outcome.err


@pytest.fixture
def full_disk(monkeypatch):
    """Return what lets every file fail as on a full disk (True), or no longer (False)."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    real = os.fsync
    return lambda is_full: monkeypatch.setattr(os, "fsync", full if is_full else real)


def test_run_that_starts_on_a_full_disk_says_so(mixgan, full_disk):
    full_disk(True)
    outcome = mixgan("train", *TINY, "paths.run=here")
    assert outcome.code == 2 and "paths.run: here: cannot be written (No space left on device)" in outcome.err
    full_disk(False)
    assert mixgan("train", *TINY, "paths.run=here").code == 0


def test_run_that_is_resumed_on_a_full_disk_keeps_its_state(mixgan, finished, full_disk):
    run = finished()
    (run / "DONE").unlink()
    full_disk(True)
    outcome = mixgan("train", *TINY, f"paths.run={run}")
    assert outcome.code == 1 and "environment.json could not be written (No space left on device)" in outcome.err
    assert "trained, but the results cannot be written (No space left on device)" in outcome.err
    full_disk(False)
    assert mixgan("train", *TINY, f"paths.run={run}").code == 0


@pytest.mark.parametrize(
    "words",
    [["train", "continue={run}", "training.nimg=140"], ["train", *TINY, "start_from={run}", "paths.run=new"],
     ["report", "{run}", "hardware=cpu"], ["sample", "run={run}", "n=4", "hardware=cpu"],
     ["export", "run={run}", "to=there"]],
    ids=lambda words: f"{words[0]} {words[-1]}",
)  # fmt: skip
def test_commands_on_a_full_disk_end_with_a_message(mixgan, finished, full_disk, words):
    run = finished()
    full_disk(True)
    outcome = mixgan(*(word.replace("{run}", str(run)) for word in words))
    assert outcome.code == 2 and "No space left on device" in outcome.err and "Traceback" not in outcome.err


def test_results_that_cannot_be_written_end_the_run_cleanly(mixgan, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(command, "write_json", full)
        patched.setattr(command, "write_environment", lambda *arguments: None)
        outcome = mixgan("train", *TINY, "paths.run=here")
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert "trained, but the results cannot be written (No space left on device)" in outcome.err
    assert TrainingStopped.__name__ in Path("here/FAILED").read_text()
    again = mixgan("train", *TINY, "paths.run=here")
    assert again.code == 0 and "resumed at 120 images" in again.err and not Path("here/FAILED").exists()


def test_run_without_its_log_is_not_finished(mixgan):
    """The lines wait in the saved state, and the same command writes them."""
    settings = [*TINY, "training.evaluate_nimg=40"]
    assert mixgan("train", *settings, "paths.run=whole").code == 0
    Path("here/metrics.jsonl").mkdir(parents=True)
    outcome = mixgan("train", *settings, "paths.run=here")
    assert outcome.code == 1 and not Path("here/DONE").exists() and "Traceback" not in outcome.err
    assert "metrics.jsonl cannot be written (Is a directory); its lines are kept in memory" in outcome.err
    assert "trained, but the results cannot be written (Is a directory)" in outcome.err
    Path("here/metrics.jsonl").rmdir()
    again = mixgan("train", *settings, "paths.run=here")
    assert again.code == 0 and "resumed at 120 images" in again.err
    assert without_times(lines("whole")) == without_times(lines("here"))


@pytest.mark.slow
@pytest.mark.integ
def test_memory_stays_flat_over_thousands_of_steps(tmp_path):
    """On the ring, with logging, pictures, evaluations and states as they come by default; in a process of its own."""
    steps = 20_000 if ALL else 10_000
    script = f"""
import re, sys
from pathlib import Path
from mixgan_cli import cli
from mixgan_cli.training import loop
import torch

def memory():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

real = loop.iterate
def iterate(state, *others):
    real(state, *others)
    if state.progress.step % 1000 == 0:
        device = torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
        print("MEMORY", state.progress.step, memory(), device, flush=True)
loop.iterate = iterate
sys.exit(cli.main(["train", "data=ring", "model=mog", "model.k=4", "objective.d_steps=1", "training.batch=32",
    "training.nimg={32 * steps}", "training.checkpoint_nimg=20_000", "training.evaluate_nimg=50_000",
    "training.sample_nimg=50_000", "evaluation.n_fake=500", "evaluation.n_real=500", "hardware.threads=1",
    "paths.outputs={tmp_path}"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("MEMORY")]
    measured = {int(step): (float(host), float(device)) for step, host, device in told}
    early = [max(measured[step][place] for step in range(2_000, 4_001, 1_000)) for place in (0, 1)]
    late = [max(measured[step][place] for step in range(steps - 2_000, steps + 1, 1_000)) for place in (0, 1)]
    print(f"host: {early[0]:.1f} MB by step 4,000, {late[0]:.1f} by {steps:,}; device: {early[1]:.1f}, {late[1]:.1f}")
    assert late[0] - early[0] < 20 and late[1] - early[1] < 1  # a tensor of a step left behind would be more
