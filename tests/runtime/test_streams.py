"""What is printed reaches any terminal, and a reader that goes away ends nothing with a traceback."""

import io
import logging
import os
import sys

import pytest

from mixgan_cli import cli


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
