"""What is written to a path of the user's: files through devices, FIFOs and links, and files that are kept.

Devices are made in a temporary folder, so that none of this machine's is ever a target.
"""

import os
import stat
import threading
from pathlib import Path

import pytest

from mixgan_cli.errors import RunError
from mixgan_cli.runtime.io import write_text
from mixgan_cli.runtime.outputs import LIST, output_file, output_folder

NODES = {"null": (stat.S_IFCHR, 1, 3), "full": (stat.S_IFCHR, 1, 7), "block": (stat.S_IFBLK, 7, 77)}


def node(folder, name):
    """Make a device of its own in a folder."""
    kind, major, minor = NODES[name]
    try:
        os.mknod(folder / name, kind | 0o666, os.makedev(major, minor))
    except PermissionError:
        pytest.skip("this user cannot make devices")
    return folder / name


def write(path, text="new", **options):
    with output_file(path, lambda file: file.read_text().startswith("own"), **options) as temporary:
        write_text(temporary, text)


def write_all(folder, files, **options):
    with output_folder(folder, **options) as temporary:
        for name, text in files.items():
            write_text(temporary / name, text)


def test_device_stays_a_device(tmp_path):
    device = node(tmp_path, "null")
    write(device)
    assert stat.S_ISCHR(device.lstat().st_mode) and [path.name for path in tmp_path.iterdir()] == ["null"]


def test_device_that_takes_nothing_is_reported(tmp_path):
    with pytest.raises(RunError, match=r"to=.*full: cannot be written .No space left"):
        write(node(tmp_path, "full"))


def test_block_device_is_refused(tmp_path):
    device = node(tmp_path, "block")
    with pytest.raises(RunError, match=r"to=.*block: cannot be written .a block device"):
        write(device)
    assert stat.S_ISBLK(device.lstat().st_mode)


def test_fifo_is_written_through(tmp_path):
    fifo, read = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    write(fifo)
    reader.join()
    assert read == ["new"] and stat.S_ISFIFO(fifo.lstat().st_mode)


@pytest.mark.parametrize("kind", ["fifo", "null"])
def test_files_of_a_run_never_replace_a_device(tmp_path, kind):
    """What has no path of the user's, such as the log of a run, is not written through a device either."""
    path = tmp_path / "fifo"
    os.mkfifo(path) if kind == "fifo" else (path := node(tmp_path, kind))
    with pytest.raises(OSError, match="not a regular file"):
        write_text(path, "new")
    assert not stat.S_ISREG(path.lstat().st_mode)


@pytest.mark.parametrize("target", ["old", "missing"])
def test_link_stays_and_its_target_is_written(tmp_path, target):
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "old").write_text("own")
    (tmp_path / "link").symlink_to(f"away/{target}")
    (tmp_path / "chain").symlink_to("link")
    write(tmp_path / "chain")
    assert (tmp_path / "chain").is_symlink() and (tmp_path / "link").is_symlink()
    assert (tmp_path / "away" / target).read_text() == "new"


def test_link_to_a_file_of_the_user_is_refused(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    with pytest.raises(RunError, match="would be replaced"):
        write(tmp_path / "link")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("old", ["own, older", "new"])
def test_own_or_equal_file_is_replaced_with_its_mode(tmp_path, old):
    path = tmp_path / "x"
    path.write_text(old)
    path.chmod(0o640)
    write(path)
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_file_of_the_user_is_replaced_only_by_force(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(RunError, match=r"to=.*x: it would be replaced.*force=true"):
        write(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"
    write(tmp_path / "x", force=True)
    assert (tmp_path / "x").read_text() == "new"


def test_folder_is_not_taken_for_a_file(tmp_path):
    with pytest.raises(RunError, match="Is a directory"):
        write(tmp_path)


@pytest.mark.parametrize("folder", ["/", ".", "..", "a/.."])
def test_folder_without_a_name_is_refused(folder):
    with pytest.raises(RunError, match="not the name of a folder"), output_folder(Path(folder)):
        raise AssertionError("begun")


@pytest.mark.parametrize("kind", ["file", "fifo", "null"])
def test_file_is_not_taken_for_a_folder(tmp_path, kind):
    path = tmp_path / kind
    path.write_text("mine") if kind == "file" else os.mkfifo(path) if kind == "fifo" else node(tmp_path, kind)
    with pytest.raises(RunError, match="Not a directory"):
        write_all(path, {"a": "new"})
    assert path.exists() and not path.is_dir() and path.is_file() == (kind == "file")


def test_folder_is_written_again_but_changed_files_are_kept(tmp_path):
    folder = tmp_path / "page"
    write_all(folder, {"a": "1", "b/c": "1"})
    write_all(folder, {"a": "2", "b/c": "2"})
    (folder / "a").chmod(0o600)
    (folder / "b" / "mine").write_text("mine")
    write_all(folder, {"a": "3", "b/c": "3"})
    assert (folder / "a").stat().st_mode & 0o777 == 0o600 and (folder / "b" / "mine").read_text() == "mine"
    (folder / "b" / "c").write_text("edited")
    for name in ("b/c", "b/mine"):
        with pytest.raises(RunError, match=f": {name} would be replaced"):
            write_all(folder, {"a": "4", name: "4"})
    assert (folder / "a").read_text() == "3" and (folder / "b" / "c").read_text() == "edited"
    write_all(folder, {"a": "4", "b/c": "4"}, force=True)
    write_all(folder, {"a": "5", "b/c": "5"})
    assert (folder / "b" / "c").read_text() == "5" and not list(folder.rglob("*.tmp"))


def test_folder_without_a_list_is_asked_for_older_files(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "a").write_text("older")
    with pytest.raises(RunError, match="a would be replaced"):
        write_all(folder, {"a": "1"})
    write_all(folder, {"a": "1"}, is_older=lambda file: file.read_text() == "older")
    (folder / "a").write_text("older")  # since there is a list, it counts
    with pytest.raises(RunError, match="a would be replaced"):
        write_all(folder, {"a": "2"}, is_older=lambda file: True)


def test_links_and_other_kinds_in_a_folder_are_kept(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "mine").write_text("mine")
    (folder / "a").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="a would be replaced"):
        write_all(folder, {"a": "1"})
    write_all(folder, {"a": "1"}, force=True)  # the link is replaced, not the file
    assert (tmp_path / "mine").read_text() == "mine" and not (folder / "a").is_symlink()
    os.mkfifo(folder / "fifo")
    (folder / "sub").mkdir()
    (folder / "away").symlink_to(tmp_path)
    for name, why in {"fifo": "not a regular file", "sub": "not a regular file", "a/b": "Not a directory",
                      "away/mine": "a link that leads out"}.items():  # fmt: skip
        with pytest.raises(RunError, match=why):
            write_all(folder, {name: "2"}, force=True)
    assert (tmp_path / "mine").read_text() == "mine"


def test_linked_folder_stays_a_link(tmp_path):
    for target in ("there", "missing"):
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        write_all(tmp_path / "link", {"a": "1"})
        assert (tmp_path / "link").is_symlink() and (tmp_path / target / "a").read_text() == "1"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_odd_list_is_not_followed(tmp_path, kind, caplog):
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "mine").write_text("mine")
    path = folder / LIST
    path.symlink_to(tmp_path / "mine") if kind == "link" else os.mkfifo(path) if kind == "fifo" else path.mkdir()
    write_all(folder, {"a": "1"})
    assert (folder / "a").read_text() == "1" and (tmp_path / "mine").read_text() == "mine"
    assert "cannot be written" in caplog.text


def test_odd_names_are_known_again(tmp_path):
    names = ["a\nb", "ü", os.fsdecode(b"\xff"), "a\\nb", " "]
    for text in ("1", "2"):
        write_all(tmp_path / "page", dict.fromkeys(names, text))
    assert {(tmp_path / "page" / name).read_text() for name in names} == {"2"}
