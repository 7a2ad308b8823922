"""A run whose folder is deleted or moved while it trains stops, and says where its state is."""

import shutil
from pathlib import Path

import pytest

from mixgan_cli.commands import train as command
from mixgan_cli.evaluation.evaluator import Evaluator
from mixgan_cli.training import loop
from mixgan_cli.training.checkpoint import read_state
from tests.commands.test_train import lines, same, weights
from tests.conftest import TINY

RUN = [*TINY, "evaluation=none", "paths.run=here"]


def empty(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace(folder):
    """Put another run in its place."""
    shutil.copytree(folder, "other")
    shutil.rmtree(folder)
    Path("other").rename(folder)


LOSSES = {
    "deleted": (shutil.rmtree, "here", "the same command resumes it"),
    "emptied": (empty, "here", "the same command resumes it"),
    "moved": (lambda folder: folder.rename("there"), "there", "/there resumes it"),
    "replaced": (replace, "here-2", "paths.run=here-2 resumes it"),
}


@pytest.fixture
def lose(monkeypatch):
    """Do something to the folder of the run after its second iteration."""
    real = loop.iterate

    def after_two_steps(loss):
        def iterate(state, *others):
            real(state, *others)
            if state.progress.step == 2:
                loss(Path("here"))

        monkeypatch.setattr(loop, "iterate", iterate)

    return after_two_steps


@pytest.mark.parametrize("kind", LOSSES)
def test_run_without_its_folder_stops_and_keeps_its_state(mixgan, lose, kind):
    loss, place, advice = LOSSES[kind]
    lose(loss)
    outcome = mixgan("train", *RUN)
    assert outcome.code == 1 and "Traceback" not in outcome.err and advice in outcome.err, outcome.err
    assert "here: moved to" in outcome.err if kind == "moved" else "here: deleted" in outcome.err
    assert read_state(Path(place, "checkpoints", "last.pt"))["progress"]["nimg"] == 80
    assert Path("here").exists() == (kind != "moved")
    lose(lambda folder: None)
    assert mixgan("train", *RUN[:-1], f"paths.run={place}").code == 0
    assert mixgan("train", *RUN[:-1], "paths.run=undisturbed").code == 0
    assert same(weights(place), weights("undisturbed"))
    if kind == "moved":
        assert len(lines(place)) == len(lines("undisturbed"))


@pytest.mark.parametrize("moment", ["evaluation", "data"])
def test_folder_deleted_before_or_after_training(mixgan, monkeypatch, moment):
    """While the data are prepared, or during the last evaluation."""
    owner, name = (Evaluator, "evaluate") if moment == "evaluation" else (command, "begin")
    real = getattr(owner, name)

    def delete(*arguments):
        shutil.rmtree("here")
        return real(*arguments)

    monkeypatch.setattr(owner, name, delete)
    outcome = mixgan("train", *TINY, "paths.run=here")
    assert outcome.code == 1 and "here: deleted while the run was training" in outcome.err, outcome.err
    assert not Path("here/DONE").exists()
    monkeypatch.setattr(owner, name, real)
    assert mixgan("train", *TINY, "paths.run=here").code == 0


def test_state_that_cannot_be_saved_is_reported(mixgan, lose, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    lose(lambda folder: (shutil.rmtree(folder), monkeypatch.setattr("mixgan_cli.runs.write_text", full)))
    outcome = mixgan("train", *RUN)
    assert outcome.code == 1 and "could not be saved in here/checkpoints/last.pt (No space left" in outcome.err


def test_folder_that_does_not_answer_is_not_gone(mixgan, lose, monkeypatch):
    real = Path.stat

    def silent(path, **options):
        if path.name == "config.yaml":
            monkeypatch.setattr(Path, "stat", real)
            raise OSError(5, "Input/output error")
        return real(path, **options)

    lose(lambda folder: monkeypatch.setattr(Path, "stat", silent))
    assert mixgan("train", *RUN).code == 0
