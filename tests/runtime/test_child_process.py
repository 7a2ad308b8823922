"""Work in a child process: what comes back from it, and what ends it."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mixgan_cli.errors import ConfigError
from mixgan_cli.runtime.child_process import ProcessDied, run_in_child
from mixgan_cli.runtime.signals import SIGNALS, Interrupted, Interruptions

SECONDS = 30
"""How long a child sleeps that is to be ended."""


@pytest.fixture(autouse=True)
def _signals_are_heard():
    """A shell lets its jobs in the background ignore SIGINT, and nohup SIGHUP."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait_until(found):
    deadline = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sleep_and_save(folder):
    """Work that notes its process, and that it was interrupted."""
    aside = folder / "aside"
    aside.write_text(str(os.getpid()))
    aside.rename(folder / "pid")
    try:
        time.sleep(SECONDS)
    except Interrupted as error:
        (folder / "saved").write_text(str(error))
        raise


def send_once_it_runs(folder, number, to_child=False):
    """Send a signal to this process, or to the child, from another thread."""

    def send():
        wait_until((folder / "pid").exists)
        os.kill(int((folder / "pid").read_text()) if to_child else os.getpid(), number)

    threading.Thread(target=send).start()


def test_result_comes_from_another_process():
    pid, large = run_in_child(lambda: (os.getpid(), b"x" * 1_000_000))
    assert pid != os.getpid() and len(large) == 1_000_000
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("error", [ConfigError("model.k=3: no"), OSError(errno.ENOSPC, "full", "f"), SystemExit(3)])
def test_exception_keeps_its_type(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as raised:
        run_in_child(fail)
    assert raised.value.args == error.args


def test_exception_that_cannot_be_pickled_is_described():
    class LocalError(Exception):
        pass

    def fail():
        raise LocalError("a reason")

    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in fail.*LocalError: a reason"):
        run_in_child(fail)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "killed by signal 9 (SIGKILL), often the out-of-memory killer"),
        (signal.SIGALRM, "killed by signal 14 (SIGALRM)"),
        (signal.SIGRTMIN + 3, f"killed by signal {signal.SIGRTMIN + 3} (real-time)"),
    ],
)
def test_death_by_a_signal_is_named(number, message):
    with pytest.raises(ProcessDied) as raised:
        run_in_child(lambda: os.kill(os.getpid(), number))
    assert str(raised.value) == message and raised.value.exit_code == 128 + number


@pytest.mark.parametrize(("code", "exit_code"), [(0, 1), (3, 3)])
def test_exit_without_a_result_is_an_error(code, exit_code):
    with pytest.raises(ProcessDied, match=f"exit code {code} and without a result") as raised:
        run_in_child(lambda: os._exit(code))
    assert raised.value.exit_code == exit_code


def test_death_is_noticed_if_another_process_holds_the_pipe(tmp_path):
    def leave_a_process_and_die():
        if (pid := os.fork()) == 0:
            time.sleep(SECONDS)
            os._exit(0)
        (tmp_path / "pid").write_text(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)

    began = time.monotonic()
    with pytest.raises(ProcessDied):
        run_in_child(leave_a_process_and_die)
    assert time.monotonic() - began < SECONDS / 2
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_forwarded(tmp_path, number):
    send_once_it_runs(tmp_path, number)
    with pytest.raises(Interrupted) as raised:
        run_in_child(lambda: sleep_and_save(tmp_path))
    assert raised.value.number == number
    assert (tmp_path / "saved").read_text() == signal.Signals(number).name
    assert signal.getsignal(number) is signal.default_int_handler


def test_signal_that_came_too_late_for_the_child_is_raised(tmp_path):
    def ignore():
        try:
            sleep_and_save(tmp_path)
        except Interrupted:
            return "finished"

    send_once_it_runs(tmp_path, signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM"), Interruptions():
        run_in_child(ignore)


def test_signal_to_the_child_alone_ends_only_the_child(tmp_path):
    """As from a program that ends the largest process when memory is short."""
    send_once_it_runs(tmp_path, signal.SIGTERM, to_child=True)
    with pytest.raises(ProcessDied, match="SIGTERM") as raised:
        run_in_child(lambda: sleep_and_save(tmp_path))
    assert raised.value.exit_code == 143 and (tmp_path / "saved").exists()


def test_child_leaves_requeueing_to_its_parent():
    """SLURM sends the signal to all processes of a job."""
    before = signal.signal(signal.SIGUSR2, lambda *_: os._exit(1))
    try:
        assert run_in_child(lambda: signal.raise_signal(signal.SIGUSR2) or "went on") == "went on"
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_child_ends_with_its_parent(tmp_path):
    parent = multiprocessing.get_context("fork").Process(target=run_in_child, args=(lambda: sleep_and_save(tmp_path),))
    parent.start()
    wait_until((tmp_path / "pid").exists)
    child = Path("/proc", (tmp_path / "pid").read_text())
    assert child.exists()
    parent.kill()
    parent.join()
    wait_until(lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text())
    assert not (tmp_path / "saved").exists()


IMPORTING = """
import threading, torch
torch.cuda.is_available = torch.cuda.device_count = None
import mixgan_cli.commands.train
assert threading.active_count() == 1 and not torch.cuda.is_initialized()
"""


def test_importing_a_command_leaves_cuda_and_threads_to_the_child():
    """A sweep imports it before the fork, which neither survives."""
    assert subprocess.run([sys.executable, "-c", IMPORTING]).returncode == 0
