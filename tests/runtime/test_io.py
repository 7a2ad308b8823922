import errno
import fcntl
import os
from functools import cache, partial, partialmethod
from itertools import count
from pathlib import Path

import pytest

from mixgan_cli.runtime import io
from mixgan_cli.runtime.io import LEFTOVER_SECONDS, atomic_folder, atomic_write, remove_leftovers, write_text
from mixgan_cli.sweeps import gpus
from tests.conftest import TINY


class Killed(BaseException):
    """The end of a process."""


def write_pair(folder, text, extra=()):
    """Write files that belong together."""
    with atomic_folder(folder) as temporary:
        for name in ("one", "two", *extra):
            write_text(temporary / name, text)


def fail_at(monkeypatch, number):
    """Let the renaming or removing of a file fail for good from this call on, as if the process had been killed."""
    calls = count(1)

    def failing(real, *arguments, **named):
        if next(calls) >= number:
            raise Killed
        return real(*arguments, **named)

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, partialmethod(partial(failing, getattr(Path, name))))


@pytest.mark.parametrize("exists", [True, False])
def test_killed_folder_never_mixes_old_and_new(tmp_path, exists):
    seen = set()
    for number in count(1):
        folder = tmp_path / str(number)
        if exists:
            write_pair(folder, "old", extra=["theirs"])
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, number)
            try:
                write_pair(folder, "new")
                break
            except Killed:
                pass
        there = {path.name: path.read_text() for path in folder.glob("[!.]*")}
        assert there.pop("theirs", "old") == "old"
        assert len(set(there.values())) <= 1, there
        seen.add(tuple(sorted(there.items())))
        write_pair(folder, "new")
        assert {path.read_text() for path in folder.glob("[!.t]*")} == {"new"}
    assert number > 4 and (not exists or len(seen) > 2)


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    names = [".last.pt.1.tmp", ".best.pt.2.tmp", ".folder.3.tmp", ".mine.tmp", "4.tmp"]
    for name in names:
        (tmp_path / name).mkdir() if "folder" in name else (tmp_path / name).touch()
    write_text(tmp_path / "last.pt", "new")
    assert len(list(tmp_path.glob("*.tmp"))) == 5  # another process may be writing it
    before = LEFTOVER_SECONDS + 1
    for name in names:
        times = (tmp_path / name).stat().st_mtime - before
        os.utime(tmp_path / name, (times, times))
    write_text(tmp_path / "last.pt", "new")
    assert not (tmp_path / ".last.pt.1.tmp").exists() and len(list(tmp_path.glob("*.tmp"))) == 4
    remove_leftovers(tmp_path, seconds=0)
    assert {path.name for path in tmp_path.iterdir()} == {".mine.tmp", "4.tmp", "last.pt"}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_gives_one_warning(mixgan, monkeypatch, number):
    def without(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    monkeypatch.setattr(io, "_warn_without_locks", cache(io._warn_without_locks.__wrapped__))
    outcome = mixgan("train", *TINY, "evaluation=none", "paths.run=here")
    assert outcome.code == 0 and outcome.err.count(f"has no locks ({os.strerror(number)})") == 1
    Path("here/DONE").unlink()
    listed = mixgan("list", "here")
    assert listed.json["runs"][0]["state"] == "interrupted" and listed.err.count("locks") == 0
    monkeypatch.setattr(gpus, "_locks", {})
    monkeypatch.setenv(gpus.VISIBLE, "")
    assert gpus.claim(["0", "1"], Path("claims")) == ("0",)


def test_lock_of_another_process_is_respected(tmp_path):
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as other:
        assert io.try_lock(one, shared=True) and io.try_lock(other, shared=True) and not io.try_lock(one)


def test_full_disk_that_a_library_hides_is_reported(tmp_path):
    """torch and matplotlib raise errors of their own while they close a file that could not be written."""
    with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "x"):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")
    assert not list(tmp_path.iterdir())
