"""What is printed reaches any terminal, and a reader that goes away ends nothing with a traceback."""

import io
import logging
import os
import subprocess
import sys

import pytest

from mixgan_cli import cli
from mixgan_cli.runtime.streams import OptionalStream


class Closed(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize(
    "words", [(), ("train", "--help"), ("evaluate", "--protocol"), ("train", "--cfg", "job"), ("--version",)]
)
def test_closed_pipe_ends_quietly(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "stdout", Closed())
    assert cli.main(words) == 141
    assert capsys.readouterr().err == ""


def test_closed_pipe_after_a_command_is_quiet(mixgan, monkeypatch, capsys, finished):
    run = finished()
    monkeypatch.setattr(sys, "stdout", Closed())
    assert cli.main(["sample", f"run={run}", "n=2", "hardware=cpu"]) == 141
    assert "Traceback" not in capsys.readouterr().err


class Full(io.StringIO):
    """A file on a full disk, or one whose reader is gone."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("words", [("--version",), ("train", "--help"), ("train", "--cfg", "job")])
def test_unwritable_output_is_one_message(monkeypatch, capsys, words):
    monkeypatch.setattr(logging.getLogger("mixgan"), "handlers", [])
    monkeypatch.setattr(sys, "stdout", Full(FULL))
    assert cli.main(words) == 1
    assert capsys.readouterr().err == "mixgan: standard output cannot be written (No space left on device)\n"


def test_unwritable_output_after_a_command_is_one_message(monkeypatch, capsys, finished):
    run = finished()
    monkeypatch.setattr(logging.getLogger("mixgan"), "handlers", [])
    monkeypatch.setattr(sys, "stdout", Full(FULL))
    assert cli.main(["sample", f"run={run}", "n=2", "hardware=cpu"]) == 1
    assert capsys.readouterr().err.count("standard output cannot be written (No space left on device)") == 1


@pytest.mark.parametrize(
    "error", [FULL, BrokenPipeError(32, "Broken pipe"), ValueError("I/O operation on closed file")]
)
def test_nothing_fails_because_of_standard_error(error):
    stream = OptionalStream(Full(error))
    assert stream.write("text") == 4 and stream.flush() is None and stream.encoding is None


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_closed_streams_are_not_taken_by_other_files(tmp_path, closed):
    """The next file that is opened would get the number of standard error, and the messages."""
    script = (
        "from mixgan_cli import cli; cli.main(['--version']); file = open('file', 'w'); print(file.fileno(), file=file)"
    )
    shell = f'{sys.executable} -c "{script}" {" ".join(f"{number}>&-" for number in closed)}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(shell, shell=True, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_terminal_of_another_encoding_gets_the_help(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert cli.main(["train", "--help"]) == 0
    assert b"Save a checkpoint every" in raw.getvalue()


def test_file_name_that_is_not_text_is_printed(monkeypatch, tmp_path):
    raw = io.BytesIO()
    monkeypatch.setattr(logging.getLogger("mixgan"), "handlers", [])
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="utf-8"))
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    assert cli.main(["export", path]) == 2
    sys.stderr.flush()
    assert b"Traceback" not in raw.getvalue() and b"caf\\udce9: " in raw.getvalue()
