"""What submitit's signal does to a job; submitit itself is in test_launchers.py."""

import signal

import pytest

from mixgan_cli.runtime.signals import save_before_requeue


class Told(BaseException):
    """As a run ends that was told to."""


@pytest.fixture
def done(monkeypatch):
    """What was done, in order, in a process that submitit set up."""
    done = []

    def requeue(number, frame):
        done.append("requeued")
        raise SystemExit(-1)

    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, requeue)
    signal.signal(signal.SIGTERM, lambda number, frame: done.append("ignored"))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    yield done
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_run_saves_itself_and_is_requeued(done):
    def save_and_end(number, frame):
        done.append("saved")
        raise Told

    submitit = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(SystemExit), save_before_requeue():
        signal.signal(signal.SIGTERM, save_and_end)  # as a run does while it trains
        signal.raise_signal(signal.SIGUSR2)
    assert done == ["saved", "requeued"] and signal.getsignal(signal.SIGUSR2) is submitit


def test_job_that_cannot_save_its_state_is_requeued_at_once(done):
    with pytest.raises(SystemExit), save_before_requeue():
        signal.raise_signal(signal.SIGUSR2)
    assert done == ["requeued"]


def test_a_run_that_ends_in_time_is_not_requeued(done):
    with save_before_requeue():
        signal.signal(signal.SIGTERM, lambda number, frame: done.append("held"))
        signal.raise_signal(signal.SIGUSR2)
    assert done == ["held"]


def test_other_ends_are_not_requeued(done):
    with pytest.raises(Told), save_before_requeue():
        raise Told
    assert done == []


def test_without_submitit_nothing_is_changed(done, monkeypatch):
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    before = signal.getsignal(signal.SIGUSR2)
    with save_before_requeue():
        assert signal.getsignal(signal.SIGUSR2) is before
