"""The progress bar and its estimate."""

import io
import logging
import sys
from pathlib import Path

import pytest

from mixgan_cli.tracking import progress
from mixgan_cli.tracking.progress import ProgressBar, RateMeter, busy_cores, core_seconds, duration, estimate
from mixgan_cli.tracking.tracker import RunInfo, Tracker
from tests.conftest import TINY


def run(total=15_000_000, nimg=0):
    return RunInfo("run", Path(), {}, total, nimg, "this CPU (2 threads)")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3, "3 s"),
        (59.6, "60 s"),
        (100, "1.7 min"),
        (1790, "30 min"),
        (51_000, "14 h"),
        (4e5, "4.6 days"),
        (4e6, "46 days"),
    ],
)
def test_durations_have_the_unit_that_suits_them(seconds, text):
    assert duration(seconds) == text


def test_estimate_names_a_shorter_run_if_it_takes_hours():
    assert estimate(290, 0, run()) == (
        "training takes about 14 h at 290 images/s on this CPU (2 threads); training.nimg=500_000 takes 29 min"
    )
    assert estimate(0.001, 0, run()).endswith("training.nimg=2 takes 33 min")
    assert estimate(290, 0, run(500_000)) == "training takes about 29 min at 290 images/s on this CPU (2 threads)"
    assert "takes about 13 h more at" in estimate(290, 1_000_000, run(nimg=900_000))
    assert estimate(290, 0, run(17_000)) is None


def test_rate_leaves_out_the_first_iteration(monkeypatch):
    times = iter([0.0, 100.0, 102.0, 104.0, 106.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    meter = RateMeter()
    assert [meter.img_per_second(nimg) for nimg in (0, 10, 30, 50, 70)] == [None] * 4 + [10.0]


@pytest.mark.parametrize(("ran", "waited", "threads", "told"), [(5, 5, 2, True), (5, 0.1, 2, False), (5, 5, 1, False)])
def test_one_thread_is_recommended_if_cores_are_busy(ran, waited, threads, told):
    message = busy_cores(ran, waited, threads)
    assert (message is not None) == told
    assert not told or ("50% of the time" in message and "hardware.threads=1" in message)


def test_time_on_a_core_is_read_or_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(progress, "SCHEDSTAT", tmp_path / "schedstat")
    assert core_seconds() == (0, 0)
    (tmp_path / "schedstat").write_text("2000000000 500000000 7\n")
    assert core_seconds() == (2, 0.5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_moves_between_reports(monkeypatch):
    """Without a report, the bar shows the images of the last iteration, and messages stand on lines of their own."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "ESTIMATE_AFTER", (0, 2))
    monkeypatch.setattr("tqdm.std.time", iter(range(1000)).__next__)
    logger = logging.getLogger("mixgan")
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(sys.stderr)])
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.INFO)
    tracker = Tracker([ProgressBar()])
    tracker.start(run(total=10**12))
    for nimg in (64, 128, 192, 256):
        tracker.advance(nimg)
    tracker.finish(None)
    shown = sys.stderr.getvalue()
    assert all(f"| {nimg}" in shown for nimg in (64, 128, 192, 256))
    (line,) = [line for line in shown.replace("\r", "\n").splitlines() if "training takes about" in line]
    assert line.strip().startswith("training takes about")


def test_training_advances_the_bar_after_each_iteration(mixgan, monkeypatch):
    seen = []
    monkeypatch.setattr(ProgressBar, "advance", lambda self, nimg: seen.append(nimg))
    assert mixgan("train", *TINY, "training.nimg=48", "training.report_nimg=48").code == 0
    assert seen == [0, 40, 80]  # five discriminator steps of eight images
